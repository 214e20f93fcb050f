"""From JPEGs to predictions, in four steps: read, prepare, forward, postprocess.

Worker processes read ahead, the device computes, and predictions are fetched one batch behind.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..backends import get_backend
from ..data.dataset import Batch, decode_batch, prepare_inputs, read_batch
from ..data.loader import batch_loader
from ..data.mjpeg import Frame
from ..data.reading import InputReader, source_name
from ..errors import JpegError, ModelError
from ..jpeg import JpegWarning, ReadOptions
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixels import DEFAULT_DECODER
from ..jpeg.reader import Source
from ..models import Network
from ..presets import Preset, get_preset
from .sources import Sources, UntilBroken, expand_sources, is_live

STEPS = ("read", "prepare", "forward", "postprocess")  # of a batch, in the order in which they happen
ON_ERROR = ("raise", "skip", "report")


@dataclass(frozen=True)
class Prediction:
    """What became of one source: `value`, or the `error` that kept it from being read.

    index: the source's place in the stream, counted from 0.
    name: its path, '<bytes INDEX>', or the stream and the frame's number.
    value: of a Detector or a Classifier, what their `predict` gives for one image.
    image_size: (height, width) in pixels of the original image, the right way up unless the reading options say
        otherwise.
    warnings: what was unusual about a source that was read all the same.
    frame: of a stream: its number, time and JPEG.
    """

    index: int
    name: str
    value: Any = None
    image_size: tuple[int, int] | None = None
    error: JpegError | None = None
    warnings: tuple[JpegWarning, ...] = ()
    frame: Frame | None = None


class Observer(Protocol):
    """Is told when each step of a batch begins and ends, also where the step raises an error.

    The four steps run once for every batch, empty ones included.  `stream` runs a batch's 'postprocess' after the next
    batch's 'forward'.  'read' is the wait for a batch, which worker processes read while other steps run.  The last
    'read' finds nothing.

    step: one of STEPS.
    batch: of 'prepare', and of 'read' if it finds one; else None.  `batch.stages_ms` says how long its reading took.
    """

    def begin(self, step: str) -> None: ...

    def end(self, step: str, batch: Batch | None) -> None: ...


class _BySource(Dataset):
    """Its keys are the items (index, source, name) themselves, so that no list of them has to exist."""

    def __init__(self, reader: InputReader):
        self.reader = reader

    def __getitems__(self, items: Sequence[tuple[int, Source, str]]) -> Batch:
        return read_batch(self.reader, items)


def _as_item(index: int, source: Source | Frame, frames: dict[int, Frame]) -> tuple[int, Source, str]:
    """(index, JPEG, name) as `read_batch` takes them; a frame is kept in `frames` meanwhile."""
    if isinstance(source, Frame):
        frames[index] = source
        return index, source.data, str(source)
    return index, source, source_name(source, index)


class Predictor(ABC):
    """A network on a backend, with all that comes before and after it.

    `stream` and `predict` run the four steps; whoever needs what lies between them calls the steps:

    for batch in predictor.read("photos/"):
        outputs = predictor.forward(predictor.prepare(batch))
        values = predictor.postprocess(outputs, batch.image_sizes)

    Detector and Classifier say which networks they take (`task`) and what `postprocess` makes of outputs.
    """

    task: str  # 'detector' or 'classifier'

    def __init__(
        self,
        model: Network,
        preset: Preset | str,
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        precision: str = "float32",
        batch_size: int = 8,
        workers: int | None = None,
        decoder: str = DEFAULT_DECODER,
        read_options: ReadOptions = DEFAULT_OPTIONS,
        observer: Observer | None = None,
    ):
        """
        Args:
            model: from `load_model` or `create_model`; it is put in eval mode.
            preset: how images become inputs: a Preset, or the name of one.
            device: 'cpu', 'cuda' or 'cuda:N'.
            backend: one of `backends.list_backends()`.
            precision: 'float32', 'float16' or 'bfloat16', as far as the backend has it.
            batch_size: images per batch.
            workers: processes that read JPEGs, 0 for this one alone (default: 1 beside a CPU, up to 8 beside a GPU).
            decoder: what makes pixels, where there have to be any: one of `jpeg.pixels.DECODER_NAMES`.
            read_options: which files are refused, which way up pictures are, and how much memory one may take.
            observer: is told when each step begins and ends.

        Raises:
            ModelError: an argument is impossible.
            BackendUnavailable: the backend cannot run here.
        """
        if model.config.task != self.task:
            raise ModelError(f"{model.config.name}: a {model.config.task}, expected a {self.task}")
        if batch_size < 1:
            raise ModelError(f"batch size is {batch_size}, expected at least 1")
        if workers is not None and workers < 0:
            raise ModelError(f"workers is {workers}, expected 0 or more")
        self.config = model.config
        self.batch_size, self.observer = batch_size, observer
        self.preset = get_preset(preset) if isinstance(preset, str) else preset
        self.runner = get_backend(backend).build(model.eval(), device, precision, (batch_size,))
        self.device = self.runner.device
        self.workers = default_workers(self.device) if workers is None else workers
        self.reader = InputReader(model.config, self.preset, decoder, read_options)
        self._side = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def read(self, sources: Sources, first_index: int = 0) -> Iterator[Batch]:
        """Batches of what `sources` stands for, in order, read ahead in `workers` processes.

        Memory does not grow with the number of sources.  Frames of a live stream are not read ahead: each is a batch
        of its own, the newest when it is asked for.

        Args:
            sources: a path, a JPEG's bytes, a folder (all JPEGs below it), a stream of frames (`data.mjpeg`: a file or
                an http address), or several of these.
            first_index: the first source's index.

        Returns:
            Batches of N images, on the CPU: `inputs`, (N, C, H, W) each, uint8 pixels or int16 coefficients, and
            `image_sizes` (N, 2) int64.  N is at most `batch_size`.  What cannot be read stands in a batch's `errors`
            and not among its N, which may be 0: the other steps take an empty batch too.

        Raises:
            StreamError: a stream of frames broke off; after the batches of what was read.
        """
        expanded = UntilBroken(expand_sources(sources))
        batches = self._batches(expanded, first_index)
        while True:
            with self._observed("read") as seen:
                batch = seen[0] = next(batches, None)
            if batch is None:
                break
            yield batch
        expanded.raise_error()

    def _batches(self, sources: Iterator[Source | Frame], first_index: int) -> Iterator[Batch]:
        numbered = enumerate(sources, start=first_index)
        frames: dict[int, Frame] = {}
        for live, run in itertools.groupby(numbered, key=lambda entry: is_live(entry[1])):
            items = (_as_item(index, source, frames) for index, source in run)
            for batch in map(self._read_one, items) if live else self._read_ahead(items):
                here = (*batch.indices, *(index for index, _ in batch.errors))
                batch.frames = {index: frames.pop(index) for index in here if index in frames}
                yield batch

    def _read_one(self, item: tuple[int, Source, str]) -> Batch:
        return read_batch(self.reader, [item])

    def _read_ahead(self, items: Iterator[tuple[int, Source, str]]) -> Iterator[Batch]:
        groups = iter(lambda: list(itertools.islice(items, self.batch_size)), [])
        start = list(itertools.islice(groups, 2))
        workers = self.workers if len(start) > 1 else 0  # one batch is read before a process has started
        yield from batch_loader(_BySource(self.reader), itertools.chain(start, groups), workers, self.device)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """The network's inputs, (N, C, H, W) each, on `device` in the precision's dtype; of an empty batch ().

        A file that was left encoded for the device, and cannot be decoded there, moves to the batch's `errors`.
        """
        with self._observed("prepare", batch):
            if not len(batch):
                return ()
            inputs = batch.inputs
            if self.reader.leaves_encoded:
                inputs = decode_batch(batch, self.reader, self.device)
                if not len(batch):
                    return ()
            return prepare_inputs(inputs, self.config, self.preset, self.device, self.runner.dtype)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The network's outputs for what `prepare` made, on `device`; for () they are ().

        A GPU may still be computing them when this returns.

        Returns:
            Of a detector (class_logits (N, A, C + 1), box_offsets (N, A, 4)), of a classifier (logits (N, C),).
        """
        with self._observed("forward"):
            outputs = self.runner(*inputs) if inputs else ()
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def postprocess(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[Any]:
        """What was found in each of N images, on the CPU; see the class for its form.

        Args:
            outputs: of `forward`.
            image_sizes: (N, 2) int64, height and width in pixels of the original images.
        """
        with self._observed("postprocess"):
            return self._postprocess(outputs, image_sizes) if outputs else []

    @abstractmethod
    def _postprocess(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[Any]: ...

    def stream(self, sources: Sources, on_error: str = "raise", first_index: int = 0) -> Iterator[Prediction]:
        """Predictions in the order of the sources, as they become ready; memory does not grow with their number.

        Args:
            sources: as for `read`.
            on_error: a source that cannot be read raises its JpegError ('raise'), is left out ('skip'), or gives a
                Prediction with `error` ('report').
            first_index: the first source's index.

        Raises:
            JpegError: with on_error='raise'.
            StreamError: a stream of frames broke off; after the predictions for what was read.
        """
        if on_error not in ON_ERROR:
            raise ModelError(f"on_error is {on_error!r}, expected one of {', '.join(ON_ERROR)}")
        return self._stream(sources, on_error, first_index)

    def predict(self, sources: Sources, on_error: str = "raise") -> list[Any]:
        """The values of all `sources`, in their order; None for what cannot be read, with on_error='report'.

        Arguments as for `stream`, which is for more sources than fit into memory.
        """
        return [prediction.value for prediction in self.stream(sources, on_error)]

    __call__ = predict

    def _stream(self, sources: Sources, on_error: str, first_index: int) -> Iterator[Prediction]:
        """Runs the next batch's network before it fetches a batch's predictions, but for frames of a live stream."""
        behind = None
        batches = UntilBroken(self.read(sources, first_index))
        for batch in batches:
            _check(batch, on_error)
            inputs = self.prepare(batch)
            _check(batch, on_error)  # again: files that were left encoded have been decoded only now
            launched = batch, *self._launch(inputs)
            if behind is not None:
                yield from self._finish(*behind, on_error)
            behind = launched
            if any(map(is_live, batch.frames.values())):
                yield from self._finish(*behind, on_error)
                behind = None
        if behind is not None:
            yield from self._finish(*behind, on_error)
        batches.raise_error()

    def _launch(self, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
        """Starts the network -> (outputs, the event after them on a GPU)."""
        outputs = self.forward(inputs)
        if self._side is None:
            return outputs, None
        # A backend may write its next outputs where these are.
        outputs = tuple(output.clone() for output in outputs)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return outputs, event

    def _finish(self, batch: Batch, outputs: tuple[Tensor, ...], event: Any, on_error: str) -> Iterator[Prediction]:
        values = self._fetch(outputs, event, batch.image_sizes)
        rows = zip(batch.indices, batch.names, values, batch.image_sizes.tolist(), strict=True)
        warnings, frame_of = batch.warnings, batch.frames.get
        predictions = [
            Prediction(i, name, value, tuple(size), warnings=warnings.get(i, ()), frame=frame_of(i))
            for i, name, value, size in rows
        ]
        if on_error == "report":
            predictions += [Prediction(i, error.name, error=error, frame=frame_of(i)) for i, error in batch.errors]
        yield from sorted(predictions, key=lambda prediction: prediction.index)

    def _fetch(self, outputs: tuple[Tensor, ...], event: Any, image_sizes: Tensor) -> list[Any]:
        if self._side is None:
            return self.postprocess(outputs, image_sizes)
        # Beside the next batch's network, and waiting for this batch's alone.
        with torch.cuda.stream(self._side):
            self._side.wait_event(event)
            values = self.postprocess(outputs, image_sizes)
        for output in outputs:
            output.record_stream(self._side)
        return values

    @contextmanager
    def _observed(self, step: str, batch: Batch | None = None) -> Iterator[list[Batch | None]]:
        """Tells the observer of a step, and of the batch that stands in the list when the step ends."""
        seen = [batch]
        if self.observer is not None:
            self.observer.begin(step)
        try:
            yield seen
        finally:
            if self.observer is not None:
                self.observer.end(step, seen[0])


def _check(batch: Batch, on_error: str) -> None:
    if on_error == "raise" and batch.errors:
        raise batch.errors[0][1]


def default_workers(device: torch.device | str) -> int:
    """Processes that read JPEGs: 1 beside a CPU that the network needs, up to 8 beside a GPU."""
    if torch.device(device).type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores - 1))
