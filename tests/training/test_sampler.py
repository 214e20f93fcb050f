"""The order of images: every pass whole, the same for any number of processes, and gone on with anywhere."""

from __future__ import annotations

import itertools

import pytest

from jpegdeep_torch.training.sampler import TrainingSampler, mixed


def test_every_pass_shows_every_image_once_in_another_order():
    keys = list(itertools.chain(*TrainingSampler(10, 4, seed=1, first_step=0, last_step=5)))
    first, second = [i for i, _ in keys[:10]], [i for i, _ in keys[10:]]
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert len({seed for _, seed in keys}) == 20
    assert keys != list(itertools.chain(*TrainingSampler(10, 4, seed=2, first_step=0, last_step=5)))


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_see_together_what_one_would_with_a_larger_batch(world):
    alone = list(TrainingSampler(7, 2 * world, seed=3, first_step=0, last_step=6))
    shares = [list(TrainingSampler(7, 2, 3, 0, 6, rank, world)) for rank in range(world)]
    for step, batch in enumerate(alone):
        assert sorted(key for share in shares for key in share[step]) == sorted(batch)


def test_going_on_is_as_if_nothing_had_happened():
    whole = list(TrainingSampler(5, 3, seed=0, first_step=0, last_step=9))
    assert list(TrainingSampler(5, 3, seed=0, first_step=4, last_step=9)) == whole[4:]
    assert len(TrainingSampler(5, 3, seed=0, first_step=4, last_step=9)) == 5


def test_mixed_seeds_are_63_bits_and_all_different():
    seeds = {mixed(seed, number) for seed in range(30) for number in range(-30, 30)}
    assert len(seeds) == 1800 and all(0 <= s < 2**63 for s in seeds)
