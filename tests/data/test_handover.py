"""Batches from workers in shared memory that is used again: what is held must not change, what is dropped is reused."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from jpegdeep_torch.data import handover
from jpegdeep_torch.data.dataset import Batch, JpegDataset, as_it_is, make_loader
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from jpegdeep_torch.training.augmentation import AugmentationConfig
from jpegdeep_torch.training.samples import ClassificationSamples
from tests.jpeg_samples import jpeg, picture

COUNT = 40
MODELS = ("ssd300_vgg16", "ssd300_vgg16_dct", "ssd300_resnet50_lcrfa_y")


@pytest.fixture(scope="module")
def sources():
    return [jpeg(picture(40 + i, 60, seed=i)) for i in range(COUNT)]


def loader(sources, model: str = "ssd300_vgg16_dct", **options):
    return make_loader(sources, model_config(model), get_preset("voc"), batch_size=3, **options)


def inputs_of(batches) -> list[tuple[torch.Tensor, ...]]:
    return [batch.inputs for batch in batches]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for own, other in zip(found, expected):
        assert len(own) == len(other) > 0
        for a, b in zip(own, other):
            assert torch.equal(a, b) and a.stride() == b.stride() and a.dtype == b.dtype


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_batches_that_are_kept_stay_as_they_are(sources, model, workers):
    """More of them than a worker has slots."""
    kept = inputs_of(loader(sources * 3, model, workers=workers))
    assert len(kept) == COUNT  # 3 times as many images in batches of 3
    assert_equal(kept, inputs_of(loader(sources * 3, model)))


def test_a_view_alone_keeps_its_memory(sources):
    """The batch is gone, and so are its tensors; what is left of them is one number each, read at the end."""
    expected = [batch.inputs[0][0, :2, 3, 4].clone() for batch in loader(sources)]
    corners = [batch.inputs[0][0, :2, 3, 4].numpy() for batch in loader(sources, workers=1)]
    assert [c.tolist() for c in corners] == [e.tolist() for e in expected]


def test_memory_is_used_again(sources):
    addresses = [batch.inputs[0].data_ptr() for batch in loader(sources, workers=1)]
    assert len(set(addresses)) <= 5 < len(addresses)  # what is being made, read ahead and used


def test_loaders_that_ended_leave_no_memory_behind(sources):
    for _ in range(3):
        list(loader(sources[:12], workers=1))
        gc.collect()
    assert len({process for process, _ in handover._known}) <= 2  # the last one, and one not yet waited for


def test_a_loop_that_is_left_early_and_begun_again(sources):
    batches = loader(sources, workers=2)
    for _ in itertools.islice(batches, 2):
        pass
    assert_equal(inputs_of(batches), inputs_of(loader(sources)))


class Copying(Dataset):
    """What a user may do with a batch in a worker."""

    def __init__(self, dataset: JpegDataset):
        self.dataset = dataset

    def __getitems__(self, indices) -> list[Batch]:
        batch = self.dataset.__getitems__(indices)
        return [batch, copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))]


def test_copies_made_in_a_worker_are_their_own(sources):
    dataset = JpegDataset(sources, model_config("ssd300_vgg16_dct"), get_preset("voc"))
    batches = DataLoader(Copying(dataset), batch_sampler=[[0, 1], [2]] * 8, num_workers=1, collate_fn=as_it_is)
    for three, expected in zip(batches, itertools.cycle([dataset.__getitems__([0, 1]), dataset.__getitems__([2])])):
        assert len(three) == 3
        for batch in three:
            assert_equal([batch.inputs], [expected.inputs])


def test_what_could_not_be_read_gives_its_memory_back(sources):
    broken = [sources[0], b"no JPEG", sources[1]] * 30
    batches = loader(broken, workers=1, on_error="skip")
    addresses = [batch.inputs[0].data_ptr() for batch in batches]
    assert len(addresses) == 30 and len(batches.skipped) == 30 and len(set(addresses)) <= 5


def test_training_batches_too(tmp_path, sources):
    paths = [tmp_path / f"{i}.jpg" for i in range(COUNT)]
    for path, data in zip(paths, sources):
        path.write_bytes(data)
    samples = ClassificationSamples(
        paths, list(range(COUNT)), model_config("vgg16_dct"), get_preset("imagenet", "dct"),
        augmentation=AugmentationConfig.none(),
    )  # fmt: skip
    keys = [[(i, 0), (i + 1, 0)] for i in range(0, COUNT, 2)]
    kept = list(DataLoader(samples, batch_sampler=keys, num_workers=2, collate_fn=as_it_is))
    assert_equal(inputs_of(kept), inputs_of(samples.__getitems__(k) for k in keys))
    assert [batch.labels.tolist() for batch in kept] == [[i, i + 1] for i in range(0, COUNT, 2)]
