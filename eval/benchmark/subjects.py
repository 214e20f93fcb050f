"""What is timed: a detector on a backend, from a stage's input to its output, by the code that users run."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from eval.benchmark.roofline import LargestConvolution
from eval.benchmark.seeded import seeded_detector
from jpegdeep_torch.backends import Comparison, Runner, compare, get_backend
from jpegdeep_torch.backends.base import example_inputs
from jpegdeep_torch.data import JpegDataset, JpegLoader, prepare_inputs
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.detection import detect, ssd300_anchors
from jpegdeep_torch.errors import CheckpointError, JpegDeepError, ModelError
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER
from jpegdeep_torch.models import ModelConfig, model_config
from jpegdeep_torch.presets import Preset, get_preset
from jpegdeep_torch.weights import load_model

CALIBRATION_IMAGES = 4


@dataclass(frozen=True)
class BenchmarkCase:
    """One comparison: all subjects that can, at these settings."""

    stage: str  # 'model' or 'e2e'
    batch_size: int
    nms: bool
    workers: int = 0  # e2e only
    coefficients: str | None = None  # e2e only: another way to coefficients than each network's own

    def __str__(self) -> str:
        stage = "network alone" if self.stage == "model" else "end to end"
        return f"{stage}, batch {self.batch_size}, {'with' if self.nms else 'without'} NMS"


@dataclass
class Sample:
    """One timed run of `images` images."""

    images: int
    seconds: float
    stages_ms: dict[str, float] = field(default_factory=dict)  # of all its images together

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds


class Timed(Protocol):
    """What `throughput.measure` takes in turn."""

    label: str

    def stage(self, case: BenchmarkCase) -> Callable[[], Sample] | None:
        """A function that times one batch of `case`; None where there is no such stage."""


@dataclass
class Network:
    """A detector's weights and how its inputs are made, before a backend has had its hands on it."""

    model: nn.Module
    preset: Preset
    sources: list[Source]
    seeded: bool
    decoder: str = DEFAULT_DECODER

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def read_by(self, coefficients: str | None) -> Network:
        """The same network, fed by another way to coefficients; itself for None."""
        if coefficients is None:
            return self
        return dataclasses.replace(self, preset=dataclasses.replace(self.preset, coefficients=coefficients))

    def loader(self, batch_size: int, workers: int, pin_memory: bool = False) -> JpegLoader:
        """Batches of the sources, in order and over again without end."""
        dataset = JpegDataset(self.sources, self.config, self.preset, decoder=self.decoder)
        return JpegLoader(dataset, batch_size, workers, sampler=Endless(len(dataset)), pin_memory=pin_memory)

    def prepared(self, batch_size: int, device: torch.device | str = "cpu", dtype=torch.float32) -> tuple[Tensor, ...]:
        """The first `batch_size` images (over again where there are fewer), as the network takes them."""
        batch = next(iter(self.loader(batch_size, 0)))
        return prepare_inputs(batch.inputs, self.config, self.preset, device, dtype)


class Endless:
    """Indices 0 .. count - 1, over and over; a sampler."""

    def __init__(self, count: int):
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(self.count))

    def __len__(self) -> int:
        return self.count


def make_network(
    name: str,
    sources: Sequence[Source],
    *,
    weights: str | None = None,
    coefficients: str | None = None,
    decoder: str = DEFAULT_DECODER,
    seed: int = 0,
    width: float = 1.0,
) -> Network:
    """The detector `name`, from a weights file or seeded (see `seeded_detector`) with `width` times the channels.

    JpegDeepError.
    """
    if weights is not None:
        model = load_model(weights)
        if model.config.name != name:
            raise CheckpointError(f"{weights}: holds {model.config.name}, expected {name}")
        return Network(model, model.info.preparation(coefficients), list(sources), seeded=False, decoder=decoder)
    config, preset = model_config(name), get_preset("voc", coefficients)
    if config.task != "detector":
        raise ModelError(f"{name}: a classifier, expected a detector")
    dataset = JpegDataset(sources, config, preset, decoder=decoder)
    batch = dataset.__getitems__(range(min(CALIBRATION_IMAGES, len(dataset))))
    for _, error in batch.errors:
        raise error
    model = seeded_detector(name, prepare_inputs(batch.inputs, config, preset), seed, width=width)
    return Network(model, preset, list(sources), seeded=True, decoder=decoder)


@dataclass
class TimedDetector:
    """A Network on one backend, built for each batch size as a Detector with that batch size would be."""

    network: Network
    backend: str
    runners: dict[int, Runner]
    label: str
    difference: Comparison  # from eager float32
    _anchors: Tensor | None = field(default=None, repr=False)

    @property
    def runner(self) -> Runner:
        """Any of its runners: they differ in nothing but the batch size."""
        return next(iter(self.runners.values()))

    @property
    def build_seconds(self) -> float:
        return sum(runner.build_seconds for runner in set(self.runners.values()))

    @property
    def anchors(self) -> Tensor:
        if self._anchors is None:
            self._anchors = ssd300_anchors(self.network.config.anchor_scales, self.runner.device)
        return self._anchors

    def synchronize(self) -> None:
        """Waits for the GPU, so that a clock reading means something."""
        if self.runner.device.type == "cuda":
            torch.cuda.synchronize(self.runner.device)

    def stage(self, case: BenchmarkCase) -> Callable[[], Sample] | None:
        """See `Timed`; pixels come no other way than their own, and a case that asks for one is for coefficients."""
        if case.coefficients is not None and not self.network.config.is_dct:
            return None
        return self._model_stage(case) if case.stage == "model" else self._end_to_end_stage(case)

    def _model_stage(self, case: BenchmarkCase) -> Callable[[], Sample]:
        """The network on a batch that lies ready on the device, and NMS where asked for."""
        runner = self.runners[case.batch_size]
        inputs = self.network.prepared(case.batch_size, runner.device, runner.dtype)
        check_finite(self.label, runner(*inputs))

        def run() -> Sample:
            self.synchronize()
            started = time.perf_counter()
            outputs = runner(*inputs)
            self.synchronize()
            network = time.perf_counter()
            if case.nms:
                detect(*outputs, self.anchors)
                self.synchronize()
            ended = time.perf_counter()
            stages = {"network": (network - started) * 1e3}
            if case.nms:
                stages["nms"] = (ended - network) * 1e3
            return Sample(case.batch_size, ended - started, stages)

        return run

    def _end_to_end_stage(self, case: BenchmarkCase) -> Callable[[], Sample]:
        """One more batch of the endless stream, from JPEG bytes to boxes in pixels of the original image.

        Worker processes go on reading ahead between two calls until they are as far ahead as they may be.
        """
        runner, network = self.runners[case.batch_size], self.network.read_by(case.coefficients)
        batches = iter(network.loader(case.batch_size, case.workers, pin_memory=runner.device.type == "cuda"))

        def run() -> Sample:
            started = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter()
            inputs = prepare_inputs(batch.inputs, network.config, network.preset, runner.device, runner.dtype)
            self.synchronize()
            transferred = time.perf_counter()
            outputs = runner(*inputs)
            self.synchronize()
            computed = time.perf_counter()
            if case.nms:
                detect(*outputs, self.anchors, batch.image_sizes)
                self.synchronize()
            ended = time.perf_counter()
            # What workers did, they did beside the network: their time is told apart from the wait for them.
            stages = dict(batch.stages_ms)
            stages["wait"] = (waited - started) * 1e3
            stages["transfer"] = (transferred - waited) * 1e3
            stages["network"] = (computed - transferred) * 1e3
            if case.nms:
                stages["nms"] = (ended - computed) * 1e3
            return Sample(len(batch), ended - started, stages)

        return run


def make_timed_detector(
    network: Network, backend: str, device: str, precision: str, batch_sizes: Sequence[int], *, alone: bool = True
) -> TimedDetector:
    """Builds `network` on a backend and holds its outputs against eager float32.

    `alone`: no other backend takes part, so the label need not name it.  JpegDeepError also where the outputs are not
    finite or further off than the precision's tolerance: what computes something else has no speed.
    """
    maker = get_backend(backend)
    if backend == "torch":
        shared = maker.build(network.model, device, precision, tuple(batch_sizes))
        runners = dict.fromkeys(batch_sizes, shared)
    else:
        runners = {size: maker.build(network.model, device, precision, (size,)) for size in batch_sizes}
    label = network.config.name if alone else f"{network.config.name}, {backend}"
    size = min(batch_sizes)
    difference = compare(runners[size], network.model, network.prepared(size))
    if not difference.ok:
        raise JpegDeepError(f"{label}, {precision}: wrong, not fast: {difference}")
    return TimedDetector(network, backend, runners, label, difference)


def check_finite(label: str, outputs: tuple[Tensor, Tensor]) -> None:
    """JpegDeepError where the network gave NaN or infinity: a speed of nonsense is not a speed."""
    for what, tensor in zip(("logits", "offsets"), outputs):
        if not torch.isfinite(tensor).all():
            raise JpegDeepError(f"{label}: its {what} are not finite")


class Convolution:
    """A subject's largest 3x3 convolution alone, as its backend runs it: the machine's own convolution speed.

    Taken in turn with the network, in the cases that time the network alone, largest batch, without NMS.
    """

    def __init__(self, subject: TimedDetector):
        runner = subject.runner
        self.batch_size = max(subject.runners)
        self.single = LargestConvolution(subject.network.model)
        self.runner = get_backend(subject.backend).build(
            self.single, runner.device, runner.precision, (self.batch_size,)
        )
        self.subject = subject
        self.label = f"{subject.label}: {self.single.work.name} alone"

    def stage(self, case: BenchmarkCase) -> Callable[[], Sample] | None:
        """See `Timed`."""
        if case != BenchmarkCase("model", self.batch_size, False):
            return None
        inputs = self.runner.prepare(example_inputs(self.single, self.batch_size, self.runner.device))

        def run() -> Sample:
            self.subject.synchronize()
            started = time.perf_counter()
            self.runner(*inputs)
            self.subject.synchronize()
            return Sample(self.batch_size, time.perf_counter() - started)

        return run

    def efficiency(self, network: Sequence[Sample], convolution: Sequence[Sample]) -> list[float]:
        """Round by round: the time that the convolution predicts for the network, over the network's."""
        return [self.single.efficiency(a.seconds, b.seconds) for a, b in zip(network, convolution)]
