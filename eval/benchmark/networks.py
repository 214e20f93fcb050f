"""The detectors of a benchmark before a backend has built them: weights, preset and images."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from eval.benchmark.seeded import fit_heads
from jpegdeep_torch.data.dataset import Batch
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.inference.predictor import Predictor
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER
from jpegdeep_torch.models import ModelConfig, create_model, model_config
from jpegdeep_torch.presets import Preset, get_preset
from jpegdeep_torch.pretrained import load_model

CALIBRATION_IMAGES = 4


@dataclass
class Network:
    """A detector's weights, how its inputs are made, and the images that it gets.

    seeded: the weights are not trained, but made by `seeded_detector`.
    """

    model: nn.Module
    preset: Preset
    sources: list[Source]
    seeded: bool
    decoder: str = DEFAULT_DECODER

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def coefficients(self) -> str | None:
        """'native' or 'reencode'; None for a network on pixels, which has no such choice."""
        return self.preset.coefficients if self.config.is_dct else None

    def read_by(self, coefficients: str | None) -> Network:
        """The same network with other coefficients; itself for None."""
        if coefficients is None:
            return self
        return dataclasses.replace(self, preset=dataclasses.replace(self.preset, coefficients=coefficients))

    def detector(self, batch_size: int, device: str = "cpu", backend: str = "torch", **options: object) -> Detector:
        """The Detector that users get; `options` are its own."""
        options = {"decoder": self.decoder, **options}
        return Detector(self.model, self.preset, device, backend, batch_size=batch_size, **options)

    def endless(self) -> Iterator[Source]:
        """The images, over and over."""
        return itertools.cycle(self.sources)


def one_batch(predictor: Predictor, sources: Iterator[Source]) -> Batch:
    """The next `batch_size` images.  Raises JpegError for one that cannot be read."""
    batch = next(predictor.read(itertools.islice(sources, predictor.batch_size)))
    for _, error in batch.errors:
        raise error
    return batch


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
    """The detector called `name`, for `sources`.

    Args:
        weights: a safetensors file; without one the weights are seeded (see `seeded_detector`).
        coefficients: in place of the file's or the preset's own.
        width: multiplies the channels of a seeded network.

    Raises:
        JpegDeepError: there is no such detector, the file is another's, or an image cannot be read.
    """
    if weights is not None:
        model = load_model(weights)
        if model.config.name != name:
            raise CheckpointError(f"{weights}: holds {model.config.name}, expected {name}")
        return Network(model, model.info.preparation(coefficients), list(sources), seeded=False, decoder=decoder)
    check_detector(name)
    model = create_model(name, seed=seed, width=width).eval()
    network = Network(model, get_preset("voc", coefficients), list(sources), seeded=True, decoder=decoder)
    detector = network.detector(min(CALIBRATION_IMAGES, len(sources)), workers=0)
    fit_heads(model, detector.prepare(one_batch(detector, iter(sources))))
    return network


def check_detector(name: str) -> None:
    """Raises ModelError for the name of a classifier, or of no network."""
    if model_config(name).task != "detector":
        raise ModelError(f"{name}: a classifier, expected a detector")
