"""JPEGs in, answers out: workers read ahead, the device runs, and results are fetched one batch behind."""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..backends import get_backend
from ..data.dataset import Batch, batch_loader, prepare_inputs, read_batch
from ..data.reading import InputReader, Source, source_name
from ..errors import DatasetError, JpegError
from ..jpeg.pixels import DEFAULT_DECODER
from ..presets import Preset
from .sources import Sources, expand_sources

ON_ERROR = ("raise", "skip", "report")
RANGES = ("wait for data", "transfer", "network", "decode and NMS")  # a batch's stages, as profilers show them


@dataclass(frozen=True)
class Answer:
    """What became of one source: `value`, or the `error` that kept it from being read.

    `index` counts the sources from 0; `image_size` is (height, width) in pixels.
    """

    index: int
    name: str
    value: Any = None
    image_size: tuple[int, int] | None = None
    error: JpegError | None = None


class _ByKey(Dataset):
    """Its keys are the items (index, source, name) themselves, so that no list of them has to exist."""

    def __init__(self, reader: InputReader):
        self.reader = reader

    def __getitems__(self, items: Sequence[tuple[int, Source, str]]) -> Batch:
        return read_batch(self.reader, items)


class Pipeline(ABC):
    """A network on a backend with its reader; subclasses turn outputs into answers."""

    task: str  # the kind of network it takes

    def __init__(
        self,
        model: nn.Module,
        preset: Preset,
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        precision: str = "float32",
        batch_size: int = 8,
        workers: int | None = None,
        decoder: str = DEFAULT_DECODER,
    ):
        """`workers`: processes that read JPEGs, 0 for this one (default: 1 beside a CPU, up to 8 beside a GPU)."""
        if model.config.task != self.task:
            raise DatasetError(f"{model.config.name}: a {model.config.task}, expected a {self.task}")
        if batch_size < 1:
            raise DatasetError(f"batch size is {batch_size}, expected at least 1")
        if workers is not None and workers < 0:
            raise DatasetError(f"workers is {workers}, expected 0 or more")
        self.config, self.preset, self.batch_size = model.config, preset, batch_size
        self.runner = get_backend(backend).build(model, device, precision, (batch_size,))
        self.device = self.runner.device
        self.workers = default_workers(self.device) if workers is None else workers
        self.reader = InputReader(model.config, preset, decoder)
        self._side = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def stream(self, sources: Sources, on_error: str = "raise", first_index: int = 0) -> Iterator[Answer]:
        """Answers in the order of the sources, as they become ready; memory does not grow with their number.

        `on_error`: a source that cannot be read raises its JpegError ('raise'), is left out ('skip'), or gives an
        Answer with `error` ('report').  `first_index` is the first source's index.
        """
        if on_error not in ON_ERROR:
            raise DatasetError(f"on_error is {on_error!r}, expected one of {', '.join(ON_ERROR)}")
        return self._stream(sources, on_error, first_index)

    def _stream(self, sources: Sources, on_error: str, first_index: int) -> Iterator[Answer]:
        behind: tuple[Batch, Any] | None = None
        batches = self._batches(sources, first_index)
        while (batch := self._next(batches)) is not None:
            if on_error == "raise" and batch.errors:
                raise batch.errors[0][1]
            launched = self._launch(batch)
            if behind is not None:
                yield from self._finish(*behind, on_error)
            behind = batch, launched
        if behind is not None:
            yield from self._finish(*behind, on_error)

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        with named_range("wait for data", self.device):
            return next(batches, None)

    def answer(self, inputs: Sequence[Tensor], image_sizes: Tensor) -> list[Any]:
        """The values of one batch that is read already: a Batch's `inputs` and `image_sizes` (N, 2) height, width."""
        count = len(image_sizes)
        batch = Batch(tuple(inputs), torch.as_tensor(image_sizes), list(range(count)), [""] * count)
        return [answer.value for answer in self._finish(batch, self._launch(batch), "raise")]

    def _batches(self, sources: Sources, first_index: int) -> Iterator[Batch]:
        items = ((i, s, source_name(s, i)) for i, s in enumerate(expand_sources(sources), start=first_index))
        groups = iter(lambda: list(itertools.islice(items, self.batch_size)), [])
        start = list(itertools.islice(groups, 2))
        workers = self.workers if len(start) > 1 else 0  # one batch is read before a process has started
        return iter(batch_loader(_ByKey(self.reader), itertools.chain(start, groups), workers, self.device))

    def _launch(self, batch: Batch) -> tuple[tuple[Tensor, ...], Any] | None:
        """Starts transfer and network -> (outputs, event); on a GPU nothing is waited for."""
        if not len(batch):
            return None
        with named_range("transfer", self.device):
            inputs = prepare_inputs(batch.inputs, self.config, self.preset, self.device, self.runner.dtype)
        with named_range("network", self.device):
            outputs = self.runner(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if self._side is None:
            return outputs, None
        # A backend may write its next outputs where these are.
        outputs = tuple(output.clone() for output in outputs)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return outputs, event

    def _finish(self, batch: Batch, launched: tuple[tuple[Tensor, ...], Any] | None, on_error: str) -> Iterator[Answer]:
        answers = {}
        if launched is not None:
            with named_range("decode and NMS", self.device):
                values = self._values(*launched, batch.image_sizes)
            for index, name, size, value in zip(batch.indices, batch.names, batch.image_sizes.tolist(), values):
                answers[index] = Answer(index, name, value, tuple(size))
        if on_error == "report":
            answers |= {index: Answer(index, error.name, error=error) for index, error in batch.errors}
        for index in sorted(answers):
            yield answers[index]

    def _values(self, outputs: tuple[Tensor, ...], event: Any, image_sizes: Tensor) -> list[Any]:
        if self._side is None:
            return self._answers(outputs, image_sizes)
        # Beside the next batch's network, and waiting for this batch's alone.
        with torch.cuda.stream(self._side):
            self._side.wait_event(event)
            values = self._answers(outputs, image_sizes)
        for output in outputs:
            output.record_stream(self._side)
        return values

    @abstractmethod
    def _answers(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[Any]:
        """One value for each image, on the CPU."""


@contextmanager
def named_range(name: str, device: torch.device) -> Iterator[None]:
    """What happens inside stands under `name` in a trace of torch.profiler, and on a GPU in one of Nsight Systems."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.nvtx.range_push(name)
    try:
        with torch.profiler.record_function(name):
            yield
    finally:
        if on_gpu:
            torch.cuda.nvtx.range_pop()


def default_workers(device: torch.device | str) -> int:
    """Processes that read JPEGs: 1 beside a CPU that the network needs, up to 8 beside a GPU."""
    if torch.device(device).type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores - 1))


def known_class_names(names: Sequence[str] | None, num_classes: int, known: Iterable[Sequence[str]] = ()) -> list[str]:
    """`names`, or the first of `known` that has as many, or the numbers '1', '2', ..."""
    fitting = (list(candidate) for candidate in known if len(candidate) == num_classes)
    return list(names) if names else next(fitting, [str(k) for k in range(1, num_classes + 1)])
