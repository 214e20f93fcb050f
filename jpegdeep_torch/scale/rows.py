"""What is known of each file, in columns: the same by shards, by torchrun and by Ray, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..inference.detector import Detector
from ..inference.predictor import Prediction
from ..inference.writer import Selection


@dataclass
class Row:
    """One file's results.

    boxes: (K, 4) float32, xmin, ymin, xmax, ymax in pixels of the original image.
    scores, labels: (K,) float32, (K,) int64 from 1; the best score first.
    height, width: of the original image, in pixels; 0 where it could not be read.
    error: why it could not be read; None where it was.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    height: int = 0
    width: int = 0
    error: str | None = None


def failed_row(reason: str) -> Row:
    """The row of a file that could not be read."""
    return Row(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), error=reason)


def to_row(prediction: Prediction, selection: Selection) -> Row:
    """The row of a prediction, of which `selection` keeps some detections."""
    if prediction.error is not None:
        return failed_row(prediction.error.reason)
    kept = selection(prediction.value)
    assert prediction.image_size is not None  # as of every prediction without an error
    boxes, scores, labels = (kept[name].numpy() for name in ("boxes", "scores", "labels"))
    return Row(boxes, scores, labels, *prediction.image_size)


def predict_rows(detector: Detector, jpegs: Sequence[bytes], selection: Selection) -> Iterator[Row]:
    """The rows of JPEGs in memory, in their order; of a detector of `whole_batches` the same in any company."""
    for prediction in detector.stream(jpegs, on_error="report"):
        yield to_row(prediction, selection)


def whole_batches(detector: Detector) -> Detector:
    """Has the detector run batches of its batch size alone; smaller ones are filled up, and cut again afterwards.

    A library of kernels may choose others for other batch sizes, and sums in another order differ in the last bits.
    With one size an image's detections do not depend on the images beside it: on how files are spread over batches,
    shards and processes.
    """
    detector.runner.keep_to_batches_of(detector.batch_size)
    return detector
