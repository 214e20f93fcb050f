"""Top-1 and top-5 accuracy of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageNetResult:
    """What a classifier said of N images.

    predictions: (N, K) int64, the K likeliest classes of each image, the likeliest first; K is 5, or less where there
        are fewer classes.
    probabilities: (N, K) float32, theirs.
    labels: (N,) int64, the right classes.
    top1, top5: the share of images, 0 to 1, whose label is the first prediction, or among all K.
    """

    predictions: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    top1: float
    top5: float


def evaluate_imagenet(predictions: np.ndarray, probabilities: np.ndarray, labels: Sequence[int]) -> ImageNetResult:
    """The accuracies of what `Classifier` gives; arguments as in ImageNetResult."""
    labels = np.asarray(labels, dtype=np.int64)
    correct = predictions == labels[:, None]
    top1, top5 = correct[:, 0].mean(), correct.any(axis=1).mean()
    return ImageNetResult(predictions, probabilities, labels, float(top1), float(top5))
