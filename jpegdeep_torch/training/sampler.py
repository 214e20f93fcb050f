"""Which images a step reads: an endless stream of shuffled passes, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

Key = tuple[int, int]  # (index of the image, seed of everything random about it)


@dataclass
class TrainingSampler(Sampler[list[Key]]):
    """The keys of steps `first_step` to `last_step`, a list a step, for one of `world` processes.

    Place p of the stream is the same image with the same seed however many processes read it, so several processes see
    in a step just what one would with a batch as large, and a run can be gone on with anywhere.
    """

    count: int  # images in the data set
    batch_size: int  # a process
    seed: int
    first_step: int
    last_step: int
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[Key]]:
        order, of_pass = torch.empty(0), -1
        for step in range(self.first_step, self.last_step):
            keys = []
            for i in range(self.batch_size):
                place = (step * self.batch_size + i) * self.world + self.rank
                number, position = divmod(place, self.count)
                if number != of_pass:
                    order, of_pass = self._shuffled(number), number
                keys.append((int(order[position]), mixed(self.seed, place)))
            yield keys

    def _shuffled(self, number: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(mixed(self.seed, -1 - number))
        return torch.randperm(self.count, generator=generator)


def mixed(seed: int, number: int) -> int:
    """A seed of 63 bits for each pair, by SplitMix64's finalizer (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 1
