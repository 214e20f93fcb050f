"""Batches from workers in shared memory that is used again: what is held must not change, what is dropped is reused."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from jpegdeep_torch.data import shared_buffers
from jpegdeep_torch.data.dataset import Batch, JpegDataset
from jpegdeep_torch.data.loader import as_it_is, make_loader
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
    """More of them than a worker has buffers."""
    kept = inputs_of(loader(sources * 3, model, workers=workers))
    assert len(kept) == COUNT  # 3 times as many images in batches of 3
    assert_equal(kept, inputs_of(loader(sources * 3, model)))


@pytest.mark.parametrize("model", MODELS)
def test_a_loader_started_in_inference_mode(sources, model):
    """Its worker is forked into that mode, and sends from a thread that is not in it."""
    with torch.inference_mode():
        kept = inputs_of(loader(sources * 3, model, workers=1))
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
    batch = next(iter(loader(sources[:12], workers=1)))  # with it go the buffers of those that ended
    gc.collect()
    assert len({process for process, _ in shared_buffers._received}) <= 2  # its own, and one not yet waited for
    assert len(batch) == 3


def test_a_loop_that_is_left_early_and_begun_again(sources):
    batches = loader(sources, workers=2)
    for _ in itertools.islice(batches, 2):
        pass
    assert_equal(inputs_of(batches), inputs_of(loader(sources)))


class Copying(Dataset):
    """What a user may do with a batch in a worker."""

    def __init__(self, dataset: JpegDataset):
        self.dataset, self.before = dataset, None

    def __getitems__(self, indices) -> list[Batch]:
        batch = self.dataset.__getitems__(indices)
        first, self.before = self.before or batch, batch  # one that was sent before, and again
        return [batch, copy.deepcopy(batch), pickle.loads(pickle.dumps(batch)), copy.copy(batch), first]


def batches_of(dataset, collate=as_it_is, **options):
    return list(DataLoader(dataset, batch_sampler=EVENS, num_workers=1, collate_fn=collate, **options))


EVENS = [[i, i + 1] for i in range(0, COUNT, 2)]
TRANSFORMS = {
    "inputs alone": lambda batch: batch.inputs,
    "mirrored": lambda batch: replaced(batch, *(t.flip(3) for t in batch.inputs)),
    "as floats": lambda batch: replaced(batch, *(t.float() for t in batch.inputs)),
    "one of two": lambda batch: replaced(batch, batch.inputs[0] + 1, *batch.inputs[1:]),
    "a part": lambda batch: replaced(batch, *(t[:1] for t in batch.inputs)),
}


def replaced(batch: Batch, *inputs: torch.Tensor) -> Batch:
    batch.inputs = inputs
    return batch


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("model", MODELS[:2])
def test_what_a_worker_changes_arrives(sources, model, name):
    change = TRANSFORMS[name]
    dataset = JpegDataset(sources, model_config(model), get_preset("voc"))
    found = batches_of(dataset, change)
    expected = [change(dataset.__getitems__(indices)) for indices in EVENS]
    if name != "inputs alone":
        found, expected = inputs_of(found), inputs_of(expected)
    for own, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(own, other, strict=True))


def test_copies_made_in_a_worker_are_their_own(sources):
    dataset = JpegDataset(sources, model_config("ssd300_vgg16_dct"), get_preset("voc"))
    expected = [dataset.__getitems__(indices) for indices in EVENS]
    for i, several in enumerate(batches_of(Copying(dataset))):
        assert len(several) == 5
        assert_equal(inputs_of(several), inputs_of([expected[i]] * 4 + [expected[max(0, i - 1)]]))


class Threaded(Dataset):
    """Reads in threads, four batches for each it is asked for."""

    def __init__(self, dataset: JpegDataset):
        self.dataset = dataset

    def __getitems__(self, indices) -> list[Batch]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self.dataset.__getitems__, [indices] * 4))


def test_threads_in_a_worker_take_memory_of_their_own(sources):
    dataset = JpegDataset(sources, model_config("ssd300_vgg16_dct"), get_preset("voc"))
    for indices, several in zip(EVENS, batches_of(Threaded(dataset))):
        assert_equal(inputs_of(several), inputs_of([dataset.__getitems__(indices)] * 4))


def test_a_forked_process_does_not_give_back_what_it_only_copied(sources):
    batches = iter(loader(sources, workers=1))
    held = next(batches)
    expected = [t.clone() for t in held.inputs]
    if (child := os.fork()) == 0:
        held = None
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for _ in batches:
        pass
    assert all(torch.equal(a, b) for a, b in zip(held.inputs, expected))


def test_buffers_that_grew_too_small_are_forgotten(sources):
    dataset = JpegDataset(sources, model_config("ssd300_vgg16_dct"), get_preset("voc"))
    growing = [list(range(n)) for n in range(1, 16)]
    batches = DataLoader(dataset, batch_sampler=growing, num_workers=1, collate_fn=as_it_is)
    for batch, indices in zip(batches, growing):
        assert len(batch) == len(indices)
        del batch
    process = max(process for process, _ in shared_buffers._received)
    assert len([key for key in shared_buffers._received if key[0] == process]) <= 6


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
        paths, list(range(COUNT)), model_config("vgg16_dct"), get_preset("imagenet", "native"),
        augmentation=AugmentationConfig.none(),
    )  # fmt: skip
    keys = [[(i, 0), (i + 1, 0)] for i in range(0, COUNT, 2)]
    kept = list(DataLoader(samples, batch_sampler=keys, num_workers=2, collate_fn=as_it_is))
    assert_equal(inputs_of(kept), inputs_of(samples.__getitems__(k) for k in keys))
    assert [batch.labels.tolist() for batch in kept] == [[i, i + 1] for i in range(0, COUNT, 2)]
