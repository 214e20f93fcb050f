"""What a training image costs its worker, each way, on one thread, in turns, on the same draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jpegdeep_torch.data.annotations import AnnotatedImage
from jpegdeep_torch.models import ModelConfig
from jpegdeep_torch.presets import Preset
from jpegdeep_torch.training.augmentation import AugmentationConfig
from jpegdeep_torch.training.samples import WAYS, DetectionSamples
from jpegdeep_torch.utils.environment import threads_set_to


@dataclass
class DataTimes:
    """Milliseconds an image of each way: float64 (rounds, batches)."""

    name: str
    images: int
    batch_size: int
    ms: dict[str, np.ndarray]

    def ratio(self, way: str, to: str) -> np.ndarray:
        """float64 (rounds * batches,): of the same images with the same draws."""
        return (self.ms[way] / self.ms[to]).reshape(-1)


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
    """Times batches, file to TrainingBatch, of all WAYS of a DCT detector: a pass through the images one way, then the
    same draws another way, as each worker of a training knows one way alone; each way is the first equally often.

    One round goes before that does not count; every round draws anew, so that nothing is found in a cache that training
    would not find there.  The blockwise DCT that way 'pixels' leaves to the network's device is not in it.
    PyTorch's number of threads is put back.
    """
    samples = {way: DetectionSamples(images, config, preset, way=way, augmentation=augmentation) for way in WAYS}
    starts = range(0, len(images), batch_size)
    ms = {way: np.empty((rounds, len(starts))) for way in WAYS}
    with threads_set_to(1):
        for k in range(-1, rounds):
            turn = k % len(WAYS)
            for way in WAYS[turn:] + WAYS[:turn]:
                for b, start in enumerate(starts):
                    indices = range(start, min(start + batch_size, len(images)))
                    keys = [(i, (k + 1) * len(images) + i) for i in indices]
                    began = time.perf_counter()
                    samples[way].__getitems__(keys)
                    if k >= 0:
                        ms[way][k, b] = (time.perf_counter() - began) * 1e3 / len(keys)
            on_round()
    return DataTimes(name, len(images), batch_size, ms)
