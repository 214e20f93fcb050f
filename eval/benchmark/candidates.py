"""What is timed: detectors on backends, by the steps and the stream of `jpegdeep_torch.inference` that users run."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from eval.benchmark.networks import Network, one_batch
from eval.benchmark.observers import StageTimes
from eval.benchmark.roofline import LargestConvolution
from jpegdeep_torch.backends import Comparison, Runner, compare, get_backend
from jpegdeep_torch.backends.base import example_inputs
from jpegdeep_torch.errors import JpegDeepError
from jpegdeep_torch.inference.detector import Detector

_GPU_BATCHES = 16  # of a stream, at least: see `TimedDetector._end_to_end`


@dataclass(frozen=True)
class BenchmarkCase:
    """The settings of one comparison.  End to end there is always NMS, as `stream` has it."""

    stage: str  # 'model' (the network alone) or 'e2e' (from JPEG bytes to boxes)
    batch_size: int
    nms: bool
    workers: int = 0  # e2e only
    coefficients: str | None = None  # e2e only: others than each network's own

    def __str__(self) -> str:
        stage = "network alone" if self.stage == "model" else "end to end"
        return f"{stage}, batch {self.batch_size}, {'with' if self.nms else 'without'} NMS"


@dataclass
class Sample:
    """One timed run of `images` images.  `stages_ms`: of all of them together."""

    images: int
    seconds: float
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds


Run = Callable[[int], Sample]  # times so many batches, or more


class Candidate(Protocol):
    """What `measure.take_turns` takes in turn: one of our detectors, another's, or a convolution."""

    label: str

    def stage(self, case: BenchmarkCase) -> Run | None:
        """What times `case`; None where this candidate has no such case."""


def timed(batch_size: int, call: Callable[[], object], wait: Callable[[], None] = lambda: None) -> Run:
    """Times `call`, which deals with one batch; `wait` waits for the GPU."""

    def run(batches: int) -> Sample:
        wait()
        started = time.perf_counter()
        for _ in range(batches):
            call()
            wait()
        return Sample(batches * batch_size, time.perf_counter() - started)

    return run


@dataclass
class TimedDetector:
    """A Network on one backend: `detectors` holds the Detector of each batch size."""

    network: Network
    backend: str
    detectors: dict[int, Detector]
    label: str
    difference: Comparison  # from eager float32

    @property
    def runner(self) -> Runner:
        """That of any batch size: device and precision are those of all."""
        return next(iter(self.detectors.values())).runner

    @property
    def build_seconds(self) -> float:
        return sum(detector.runner.build_seconds for detector in self.detectors.values())

    def synchronize(self) -> None:
        """Waits for the GPU, so that a clock reading means something."""
        if self.runner.device.type == "cuda":
            torch.cuda.synchronize(self.runner.device)

    def stage(self, case: BenchmarkCase) -> Run | None:
        """See `Candidate`.  A case that asks for coefficients is not one of networks on pixels."""
        if case.coefficients is not None and not self.network.config.is_dct:
            return None
        return self._network_alone(case) if case.stage == "model" else self._end_to_end(case)

    def _network_alone(self, case: BenchmarkCase) -> Run:
        """`forward`, and `postprocess` where the case has NMS, of one batch that lies ready on the device."""
        detector = self.detectors[case.batch_size]
        batch = one_batch(detector, self.network.endless())
        inputs = detector.prepare(batch)
        check_finite(self.label, detector.forward(inputs))

        def run(batches: int) -> Sample:
            stages = dict.fromkeys(("network", "nms") if case.nms else ("network",), 0.0)
            self.synchronize()
            started = before = time.perf_counter()
            for _ in range(batches):
                outputs = detector.forward(inputs)
                self.synchronize()
                computed = ended = time.perf_counter()
                if case.nms:
                    detector.postprocess(outputs, batch.image_sizes)  # ends on the CPU: nothing is left to wait for
                    ended = time.perf_counter()
                    stages["nms"] += (ended - computed) * 1e3
                stages["network"] += (computed - before) * 1e3
                before = ended
            return Sample(batches * case.batch_size, before - started, stages)

        return run

    def _end_to_end(self, case: BenchmarkCase) -> Run:
        """The next predictions of an endless `stream`, which stays alive: its workers read ahead between two samples.

        `stream` is one batch behind.  While the predictions of batch k come out, batch k + 1 is read and its network
        runs.  So of one sample's stages NMS is that of its own images, and all others are those of the images one batch
        later; they are averaged over many samples.  The first sample, a warm-up, reads one batch more.

        On a GPU the network of batch k + 1 is still running when the predictions of batch k are out.  It is waited for
        within the sample, since the next candidate must find the GPU idle.  That one wait ends the overlap once in a
        sample, which is therefore many batches long.
        """
        observer = StageTimes(self.runner.device)
        detector = self._fed_as(case, observer)
        predictions = detector.stream(self.network.endless())
        fewest = _GPU_BATCHES if self.runner.device.type == "cuda" else 1

        def run(batches: int) -> Sample:
            images = max(batches, fewest) * case.batch_size
            self.synchronize()
            started = time.perf_counter()
            deque(itertools.islice(predictions, images), maxlen=0)
            self.synchronize()
            return Sample(images, time.perf_counter() - started, observer.take())

        return run

    def _fed_as(self, case: BenchmarkCase, observer: StageTimes) -> Detector:
        """The batch size's Detector with the case's workers and coefficients.

        What the backend built is shared, since building it anew for each case would take minutes.
        """
        detector = copy.copy(self.detectors[case.batch_size])
        detector.workers, detector.observer = case.workers, observer
        detector.preset = self.network.read_by(case.coefficients).preset
        detector.reader = dataclasses.replace(detector.reader, preset=detector.preset)
        return detector


def make_timed_detector(
    network: Network, backend: str, device: str, precision: str, batch_sizes: Sequence[int], *, alone: bool = True
) -> TimedDetector:
    """Builds `network` on a backend, and holds its outputs against eager float32: what is wrong has no speed.

    Args:
        alone: no other backend takes part, so the label need not name it.

    Raises:
        JpegDeepError: the backend cannot run here, or its outputs are not finite or further off than the precision's
            tolerance.
    """
    sizes = sorted(set(batch_sizes))
    detectors = {size: network.detector(size, device, backend, precision=precision, workers=0) for size in sizes}
    label = network.config.name if alone else f"{network.config.name}, {backend}"
    exact = network.detector(sizes[0], workers=0)  # float32 on the CPU
    inputs = exact.prepare(one_batch(exact, network.endless()))
    difference = compare(detectors[sizes[0]].runner, network.model, inputs)
    if not difference.ok:
        raise JpegDeepError(f"{label}, {precision}: wrong, not fast: {difference}")
    return TimedDetector(network, backend, detectors, label, difference)


def check_finite(label: str, outputs: Sequence[Tensor]) -> None:
    """JpegDeepError where the network gave NaN or infinity: a speed of nonsense is not a speed."""
    for what, tensor in zip(("logits", "offsets"), outputs):
        if not torch.isfinite(tensor).all():
            raise JpegDeepError(f"{label}: its {what} are not finite")


class Convolution:
    """A detector's largest 3x3 convolution alone, as its backend runs it: the machine's own convolution speed.

    It is taken in turn with the network, in the cases of the network alone with the largest batch and without NMS.
    """

    def __init__(self, detector: TimedDetector):
        runner = detector.runner
        self.batch_size = max(detector.detectors)
        self.single = LargestConvolution(detector.network.model)
        self.runner = get_backend(detector.backend).build(
            self.single, runner.device, runner.precision, (self.batch_size,)
        )
        self.detector = detector
        self.label = f"{detector.label}: {self.single.work.name} alone"

    def stage(self, case: BenchmarkCase) -> Run | None:
        """See `Candidate`."""
        if case != BenchmarkCase("model", self.batch_size, False):
            return None
        inputs = self.runner.prepare(example_inputs(self.single, self.batch_size, self.runner.device))
        return timed(self.batch_size, lambda: self.runner(*inputs), self.detector.synchronize)

    def efficiency(self, network: Sequence[Sample], convolution: Sequence[Sample]) -> list[float]:
        """Round by round: the time that the convolution predicts for the network, over the network's.

        A round has as many batches of the one as of the other.
        """
        return [self.single.efficiency(1 / a.images_per_s, 1 / b.images_per_s) for a, b in zip(network, convolution)]
