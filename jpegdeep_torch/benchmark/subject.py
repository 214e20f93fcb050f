"""What is timed: one detector on one backend, from a stage's input to its output, by the code that users run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..backends import Runner, get_backend
from ..data.dataset import JpegDataset, JpegLoader, prepare_inputs
from ..data.reading import Source
from ..detection import detect, ssd300_anchors
from ..errors import CheckpointError, JpegDeepError, ModelError
from ..jpeg.pixels import DEFAULT_DECODER
from ..models import ModelConfig, model_config
from ..presets import Preset, get_preset
from ..weights import load_model
from .seeded import seeded_detector

CALIBRATION_IMAGES = 4


@dataclass
class Subject:
    """A detector made ready, with its inputs."""

    model: nn.Module
    runner: Runner
    preset: Preset
    sources: list[Source]
    seeded: bool
    decoder: str = DEFAULT_DECODER
    _anchors: Tensor | None = field(default=None, repr=False)

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.runner.device

    @property
    def anchors(self) -> Tensor:
        if self._anchors is None:
            self._anchors = ssd300_anchors(self.config.anchor_scales, self.device)
        return self._anchors

    def loader(self, batch_size: int, workers: int = 0, *, endless: bool = False) -> JpegLoader:
        """Batches of the sources, in order; `endless` starts over at the end."""
        dataset = JpegDataset(self.sources, self.config, self.preset, decoder=self.decoder)
        sampler = _Endless(len(self.sources), batch_size) if endless else None
        return JpegLoader(dataset, batch_size, workers, sampler=sampler, pin_memory=self.device.type == "cuda")

    def prepared(self, batch_size: int) -> tuple[Tensor, ...]:
        """The first `batch_size` images (over again where there are fewer), prepared, on the device."""
        batch = next(iter(self.loader(batch_size, endless=True)))
        return prepare_inputs(batch.inputs, self.config, self.preset, self.device, self.runner.dtype)

    def synchronize(self) -> None:
        """Waits for the GPU, so that a clock reading means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Endless:
    """Indices 0 .. count - 1, over and over; a sampler."""

    def __init__(self, count: int, batch_size: int):
        self.count = count
        self.batches = -(-count // batch_size)

    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(self.count))

    def __len__(self) -> int:
        return self.count


def make_subject(
    name: str,
    sources: Sequence[Source],
    *,
    weights: str | None = None,
    backend: str = "torch",
    device: str = "cpu",
    precision: str = "float32",
    batch_sizes: Sequence[int] = (1, 8),
    dct: str | None = None,
    decoder: str = DEFAULT_DECODER,
    seed: int = 0,
) -> Subject:
    """Builds the detector `name`, from a weights file or seeded, on a backend.  JpegDeepError."""
    if weights is not None:
        model = load_model(weights)
        if model.config.name != name:
            raise CheckpointError(f"{weights}: holds {model.config.name}, expected {name}")
        preset = get_preset(model.info.preset, dct)
    else:
        preset = get_preset("voc", dct)
        model = None
    if model is None:
        config = model_config(name)
        if config.task != "detector":
            raise ModelError(f"{name}: a classifier, expected a detector")
        dataset = JpegDataset(sources, config, preset, decoder=decoder)
        batch = dataset.__getitems__(range(min(CALIBRATION_IMAGES, len(dataset))))
        for _, error in batch.errors:
            raise error
        model = seeded_detector(name, prepare_inputs(batch.inputs, config, preset), seed)
    runner = get_backend(backend).build(model, device, precision, batch_sizes)
    return Subject(model, runner, preset, list(sources), seeded=weights is None, decoder=decoder)


@dataclass
class Sample:
    """One timed run of `images` images."""

    images: int
    seconds: float
    stages_ms: dict[str, float] = field(default_factory=dict)  # of all its images together

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds


def check_finite(subject: Subject, outputs: tuple[Tensor, Tensor]) -> None:
    """JpegDeepError where the network gave NaN or infinity: a speed of nonsense is not a speed."""
    for what, tensor in zip(("logits", "offsets"), outputs):
        if not torch.isfinite(tensor).all():
            raise JpegDeepError(f"{subject.config.name}: its {what} are not finite in {subject.runner.precision}")


def model_stage(subject: Subject, batch_size: int, nms: bool) -> Callable[[], Sample]:
    """-> a function that times the network on a batch that lies ready on the device, and NMS where asked for."""
    inputs = subject.prepared(batch_size)

    def run() -> Sample:
        subject.synchronize()
        started = time.perf_counter()
        outputs = subject.runner(*inputs)
        subject.synchronize()
        network = time.perf_counter()
        if nms:
            detect(*outputs, subject.anchors)
            subject.synchronize()
        ended = time.perf_counter()
        stages = {"network": (network - started) * 1e3} | ({"nms": (ended - network) * 1e3} if nms else {})
        return Sample(batch_size, ended - started, stages)

    check_finite(subject, subject.runner(*inputs))
    return run


def end_to_end_stage(subject: Subject, batch_size: int, nms: bool, workers: int) -> Callable[[], Sample]:
    """-> a function that times one more batch of the endless stream from JPEG bytes to boxes in original pixels.

    Worker processes go on reading ahead between two calls until they are as far ahead as they may be.
    """
    batches = iter(subject.loader(batch_size, workers, endless=True))

    def run() -> Sample:
        started = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter()
        inputs = prepare_inputs(batch.inputs, subject.config, subject.preset, subject.device, subject.runner.dtype)
        subject.synchronize()
        transferred = time.perf_counter()
        outputs = subject.runner(*inputs)
        subject.synchronize()
        network = time.perf_counter()
        if nms:
            detect(*outputs, subject.anchors, batch.image_sizes)
            subject.synchronize()
        ended = time.perf_counter()
        # What the workers did, they did beside the network: their time is told apart from the wait for them.
        stages = dict(batch.stages_ms)
        stages["wait"] = (waited - started) * 1e3
        stages["transfer"] = (transferred - waited) * 1e3
        stages["network"] = (network - transferred) * 1e3
        if nms:
            stages["nms"] = (ended - network) * 1e3
        return Sample(len(batch), ended - started, stages)

    return run
