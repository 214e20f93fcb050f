"""The loader that reads batches in worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from ..errors import DatasetArgumentError
from ..jpeg import ReadOptions, WarningCounts
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixels import DEFAULT_DECODER, use_one_opencv_thread
from ..jpeg.reader import Source
from ..models import ModelConfig
from ..presets import Preset
from ..utils.memory import give_back_freed_memory
from .dataset import Batch, JpegDataset

ON_ERROR = ("raise", "skip")
PREFETCH = 2  # batches in the making per worker


def one_thread(_worker: int) -> None:
    """A worker_init_fn: as many workers as there are cores must not start as many threads each."""
    torch.set_num_threads(1)
    use_one_opencv_thread()


def as_it_is(batch: Any) -> Any:
    """A collate_fn for datasets whose __getitems__ makes the batch."""
    return batch


class BatchLoader(DataLoader):
    """A DataLoader of a dataset whose __getitems__ makes the batch; `options` are DataLoader's."""

    def __init__(self, dataset: Dataset, workers: int, **options: Any):
        self._has_workers = False
        super().__init__(
            dataset,
            num_workers=workers,
            collate_fn=as_it_is,
            prefetch_factor=PREFETCH if workers else None,
            worker_init_fn=one_thread,
            **options,
        )

    def __iter__(self) -> _BaseDataLoaderIter:
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
    `warnings` counts what was unusual about sources that were read.
    """

    def __init__(
        self,
        dataset: JpegDataset,
        batch_size: int = 8,
        workers: int = 0,
        *,
        on_error: str = "raise",
        pin_memory: bool = False,
    ):
        if batch_size < 1:
            raise DatasetArgumentError(f"batch size is {batch_size}, expected at least 1")
        if workers < 0:
            raise DatasetArgumentError(f"workers is {workers}, expected 0 or more")
        if on_error not in ON_ERROR:
            raise DatasetArgumentError(f"on_error is {on_error!r}, expected one of {', '.join(ON_ERROR)}")
        self.dataset, self.on_error = dataset, on_error
        self.skipped: list[tuple[str, str]] = []
        self.warnings = WarningCounts()
        self.loader = BatchLoader(
            dataset,
            workers,
            batch_size=batch_size,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.skipped, self.warnings = [], WarningCounts()
        for batch in self.loader:
            for _, error in batch.errors:
                if self.on_error == "raise":
                    raise error
                self.skipped.append((error.name, error.reason))
            for index, name in zip(batch.indices, batch.names):
                self.warnings.add(name, batch.warnings.get(index, ()))
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
    read_options: ReadOptions = DEFAULT_OPTIONS,
) -> JpegLoader:
    """Batches of JPEG files or bytes for one network, read in `workers` processes (0: in this one)."""
    dataset = JpegDataset(sources, config, preset, decoder=decoder, read_options=read_options)
    return JpegLoader(dataset, batch_size, workers, on_error=on_error, pin_memory=pin_memory)
