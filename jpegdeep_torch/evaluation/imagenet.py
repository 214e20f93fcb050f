"""Top-1 and top-5 of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOP = 5


@dataclass(frozen=True)
class ImageNetResult:
    """`predictions` (N, up to 5) int64, best first, and their `probabilities`; `labels` (N,); accuracies in 0..1."""

    predictions: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    top1: float
    top5: float


def evaluate_imagenet(predictions: np.ndarray, probabilities: np.ndarray, labels: Sequence[int]) -> ImageNetResult:
    """A hit is the label among the first 1, or 5, predictions (with fewer classes, among all there are)."""
    labels = np.asarray(labels, dtype=np.int64)
    correct = predictions == labels[:, None]
    return ImageNetResult(
        predictions, probabilities, labels, float(correct[:, 0].mean()), float(correct.any(axis=1).mean())
    )
