"""Datasets of JPEGs and the loader that reads them in worker processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import DatasetError, JpegError
from ..jpeg.pixels import DEFAULT_DECODER, decode_on_device
from ..models import ModelConfig
from ..presets import Preset, prepare_image
from ..utils.memory import give_back_freed_memory
from .handover import Lease, batch_memory, passed, unpassed
from .reading import Clock, InputReader, Source, source_name

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
ON_ERROR = ("raise", "skip")
PREFETCH = 2  # batches in the making for each worker


@dataclass
class Batch:
    """What a worker hands over.  `inputs` are channels first in shape and channels last in memory.

    inputs: RGB networks: (pixels (N, 3, S, S) uint8,), or with decoder 'torchvision-device' the N files' bytes, (L,)
        uint8 each; DCT networks: (luma (N, 64, H, W), chroma (N, 128, H/2, W/2)) int16, or luma alone.
    image_sizes: (N, 2) int64, height and width of the original images in pixels.
    indices, names: of the N sources in the dataset.
    errors: (index, JpegError) of sources that could not be read; they are not among the N.
    stages_ms: the worker's time for the whole batch.
    lease: in a worker, the shared memory that the inputs are in.
    """

    inputs: tuple[Tensor, ...]
    image_sizes: Tensor
    indices: list[int]
    names: list[str]
    errors: list[tuple[int, JpegError]] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)
    lease: Lease | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __getstate__(self) -> dict[str, object]:
        """For the way from a worker."""
        state = dict(self.__dict__)
        state["inputs"] = passed(self.inputs, state.pop("lease"))
        state["image_sizes"] = self.image_sizes.tolist()
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        sizes = state["image_sizes"]
        self.__dict__.update(state, lease=None, inputs=unpassed(state["inputs"]))
        self.image_sizes = torch.tensor(sizes, dtype=torch.int64).reshape(len(sizes), 2)

    def pin_memory(self) -> Batch:
        """Called by DataLoader(pin_memory=True)."""
        self.inputs = tuple(t.pin_memory() for t in self.inputs)
        return self


class JpegDataset(Dataset):
    """JPEG files, or JPEGs in memory, as inputs of one network.

    Items are read a batch at a time, straight into the batch's memory: use it through `make_loader`, or index it with
    `__getitems__([...])`, which gives a Batch; `dataset[i]` is a Batch of one.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        config: ModelConfig,
        preset: Preset,
        *,
        decoder: str = DEFAULT_DECODER,
        names: Sequence[str] | None = None,
    ):
        """`decoder` makes the pixels: one of `jpeg.pixels.DECODER_NAMES`.  `names` replace the sources' own."""
        self.sources = list(sources)
        if not self.sources:
            raise DatasetError("no images: expected at least one JPEG")
        if names is not None and len(names) != len(self.sources):
            raise DatasetError(f"{len(names)} names for {len(self.sources)} images")
        self.names = names
        self.reader = InputReader(config, preset, decoder)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        named = self.names
        return read_batch(
            self.reader,
            [(i, self.sources[i], named[i] if named is not None else source_name(self.sources[i], i)) for i in indices],
        )


def read_batch(reader: InputReader, items: Sequence[tuple[int, Source, str]]) -> Batch:
    """Reads (index, source, name) items into one Batch; what cannot be read goes to its `errors`."""
    clock = Clock()
    rooms, views, lease = batch_buffers(reader, len(items))
    batch = Batch((), torch.empty(0), [], [], lease=lease)
    sizes, encoded = [], []
    for index, source, name in items:
        place = len(batch.indices)
        try:
            if reader.leaves_encoded:
                data, size = reader.read_encoded(source, name, clock)
                encoded.append(torch.from_numpy(data))
            else:
                size = reader.read(source, name, tuple(view[place] for view in views), clock)
        except JpegError as error:
            # Without the frames it went through, which hold on to the batch's memory.
            error.__context__ = None
            batch.errors.append((index, error.with_traceback(None)))
            continue
        sizes.append(size)
        batch.indices.append(index)
        batch.names.append(name)
    count = len(batch.indices)
    batch.inputs = _one_piece(encoded) or tuple(room[:count].permute(0, 3, 1, 2) for room in rooms)
    batch.image_sizes = torch.tensor(sizes, dtype=torch.int64).reshape(count, 2)
    batch.stages_ms = clock.stages_ms
    return batch


def batch_buffers(reader: InputReader, count: int) -> tuple[list[Tensor], list[np.ndarray], Lease | None]:
    """Room for `count` of the reader's items, as tensors and as arrays on the same memory.

    It is in one piece; in a worker that which the main process will read, so that nothing is copied afterwards.
    """
    shapes = reader.shapes(count)
    if not shapes:
        return [], [], None
    sizes = [math.prod(shape) for shape in shapes]
    whole, lease = batch_memory(sum(sizes), reader.dtype)
    rooms = [part.view(shape) for part, shape in zip(whole.split(sizes), shapes)]
    return rooms, [room.numpy() for room in rooms], lease


def _one_piece(encoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Files' bytes, (L,) each, side by side."""
    return torch.cat(list(encoded)).split([len(data) for data in encoded]) if encoded else ()


def one_thread(_worker: int) -> None:
    """A worker_init_fn: as many workers as there are cores must not start as many threads each."""
    torch.set_num_threads(1)


def as_it_is(batch: Batch) -> Batch:
    """A collate_fn for datasets whose __getitems__ makes the batch."""
    return batch


class BatchLoader(DataLoader):
    """A DataLoader of a dataset whose __getitems__ makes the batch; `options` are DataLoader's."""

    def __init__(self, dataset: Dataset, workers: int, prefetch: int = PREFETCH, **options: Any):
        self._has_workers = False
        super().__init__(
            dataset,
            num_workers=workers,
            collate_fn=as_it_is,
            prefetch_factor=prefetch if workers else None,
            worker_init_fn=one_thread,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers and not self._has_workers:
            # A forked worker shares this process's memory, each page of which is then copied when it is next written
            # to: 1.4 s in the next batch, for what a batch of 8 leaves behind in an SSD300 on pixels.
            give_back_freed_memory()
            self._has_workers = self.persistent_workers
        return super().__iter__()


def batch_loader(dataset: Dataset, batches: Iterable[Sequence], workers: int, device: torch.device) -> DataLoader:
    """What `dataset.__getitems__` makes of each of `batches` (its keys), in `workers` processes, for `device`."""
    return BatchLoader(dataset, workers, batch_sampler=batches, pin_memory=device.type == "cuda")


class JpegLoader:
    """Batches of a JpegDataset in its order; iterate over it as often as you like.

    A source that cannot be read raises its JpegError (`on_error="raise"`), or is left out and listed in `skipped` as
    (name, reason) (`on_error="skip"`); nothing takes its place, so a batch may be smaller, or empty and then left out.
    """

    def __init__(
        self,
        dataset: JpegDataset,
        batch_size: int = 8,
        workers: int = 0,
        *,
        on_error: str = "raise",
        pin_memory: bool = False,
        prefetch: int = PREFETCH,
        sampler: Iterable[int] | None = None,
    ):
        """`prefetch` is batches in the making a worker; `sampler` gives the indices to read, in its order."""
        if batch_size < 1:
            raise DatasetError(f"batch size is {batch_size}, expected at least 1")
        if workers < 0:
            raise DatasetError(f"workers is {workers}, expected 0 or more")
        if on_error not in ON_ERROR:
            raise DatasetError(f"on_error is {on_error!r}, expected one of {', '.join(ON_ERROR)}")
        self.dataset, self.on_error = dataset, on_error
        self.skipped: list[tuple[str, str]] = []
        self.loader = BatchLoader(
            dataset,
            workers,
            prefetch,
            batch_size=batch_size,
            sampler=sampler,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.skipped = []
        for batch in self.loader:
            for _, error in batch.errors:
                if self.on_error == "raise":
                    raise error
                self.skipped.append((error.name, error.reason))
            if len(batch):
                yield batch


def make_loader(
    sources: Iterable[Source],
    config: ModelConfig,
    preset: Preset,
    *,
    batch_size: int = 8,
    workers: int = 0,
    on_error: str = "raise",
    decoder: str = DEFAULT_DECODER,
    pin_memory: bool = False,
) -> JpegLoader:
    """Batches of JPEG files or bytes for one network, read in `workers` processes (0: in this one)."""
    dataset = JpegDataset(sources, config, preset, decoder=decoder)
    return JpegLoader(dataset, batch_size, workers, on_error=on_error, pin_memory=pin_memory)


def prepare_inputs(
    inputs: Sequence[Tensor],
    config: ModelConfig,
    preset: Preset,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, ...]:
    """A batch's int16 or uint8 tensors -> what the network takes: floating point, on `device`.

    They travel as they are (from pinned memory without waiting) and are converted there.
    """
    if inputs and inputs[0].ndim == 1:
        return (prepare_image(decode_on_device(inputs, config.image_size, device), preset, dtype),)
    moved = tuple(t.to(device, non_blocking=True) for t in inputs)
    if not config.is_dct:
        return (prepare_image(moved[0], preset, dtype),)
    floats = tuple(t.to(dtype) for t in moved)
    if config.inputs == "dct_split":
        return floats[0], floats[1][:, :64], floats[1][:, 64:]
    return floats


def list_jpegs(folder: str | os.PathLike[str]) -> list[Path]:
    """The JPEG files directly in `folder`, by name; DatasetError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}, expected JPEG files")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in JPEG_SUFFIXES and p.is_file())
    if not files:
        raise DatasetError(f"{folder}: no JPEG files in it, expected names ending in {', '.join(JPEG_SUFFIXES)}")
    return files


def spread_evenly(files: Sequence[Path], most: int) -> list[Path]:
    """All of them, or `most` at even distances, the first among them."""
    count = min(most, len(files))
    return [files[i * len(files) // count] for i in range(count)]
