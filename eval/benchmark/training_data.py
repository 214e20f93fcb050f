"""What a training image costs its worker, by each kind of coefficients, on one thread, in turns, on the same draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.benchmark.threads import threads_set_to
from jpegdeep_torch.data.annotations import AnnotatedImage
from jpegdeep_torch.models import ModelConfig
from jpegdeep_torch.presets import Preset
from jpegdeep_torch.training.augmentation import AugmentationConfig
from jpegdeep_torch.training.samples import TRAINING_COEFFICIENTS, DetectionSamples


@dataclass
class DataTimes:
    """Milliseconds per image of each kind of coefficients: float64 (rounds, batches)."""

    name: str
    images: int
    batch_size: int
    ms: dict[str, np.ndarray]

    def ratio(self, coefficients: str, to: str) -> np.ndarray:
        """float64 (rounds * batches,): of the same images with the same draws."""
        return (self.ms[coefficients] / self.ms[to]).reshape(-1)


def measure(
    name: str,
    images: Sequence[AnnotatedImage],
    config: ModelConfig,
    preset: Preset,
    augmentation: AugmentationConfig,
    *,
    batch_size: int = 8,
    rounds: int = 5,
    on_round: Callable[[], None] = lambda: None,
) -> DataTimes:
    """Times batches, file to TrainingBatch, of a DCT detector by each of TRAINING_COEFFICIENTS.

    A pass through the images by one of them is followed by a pass with the same draws by the next, since a worker of a
    training run knows one alone; each is the first equally often.

    One round goes before that does not count; every round draws anew, so that nothing is found in a cache that training
    would not find there.  The blockwise DCT that coefficients 'pixels' leaves to the network's device is not in it.
    PyTorch's number of threads is put back.
    """
    samples = {
        name: DetectionSamples(images, config, preset, coefficients=name, augmentation=augmentation)
        for name in TRAINING_COEFFICIENTS
    }
    starts = range(0, len(images), batch_size)
    ms = {coefficients: np.empty((rounds, len(starts))) for coefficients in TRAINING_COEFFICIENTS}
    with threads_set_to(1):
        for k in range(-1, rounds):
            turn = k % len(TRAINING_COEFFICIENTS)
            for coefficients in TRAINING_COEFFICIENTS[turn:] + TRAINING_COEFFICIENTS[:turn]:
                for b, start in enumerate(starts):
                    indices = range(start, min(start + batch_size, len(images)))
                    keys = [(i, (k + 1) * len(images) + i) for i in indices]
                    began = time.perf_counter()
                    samples[coefficients].__getitems__(keys)
                    if k >= 0:
                        ms[coefficients][k, b] = (time.perf_counter() - began) * 1e3 / len(keys)
            on_round()
    return DataTimes(name, len(images), batch_size, ms)
