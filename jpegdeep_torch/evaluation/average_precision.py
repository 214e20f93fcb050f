"""Average precision from outcomes: by area, by 11 points, by COCO's 101 points, and as the Keras reference integrates.

Each takes weights per detection.  A bootstrap resample, in which an image stands several times, so costs no copying: a
hit of weight 2 gives the same curve as two hits, but for points below the curve's envelope.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ELEVEN_POINTS = np.linspace(0.0, 1.0, 11)  # VOC 2007
COCO_POINTS = np.linspace(0.0, 1.0, 101)


def precision_recall(
    outcomes: np.ndarray, positives: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each of D detections.

    Args:
        outcomes: (D,), 1 hit, 0 false, -1 ignored, best score first.
        positives: how many objects there are to find.
        weights: (D,), how many times each detection counts (default: once).

    Returns:
        (precision, recall), each (D,) float64.  Ignored detections repeat the values before them.
    """
    weight = np.ones(len(outcomes)) if weights is None else weights.astype(np.float64)
    hits = np.cumsum((outcomes == 1) * weight)
    total = np.cumsum((outcomes >= 0) * weight)
    precision = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
    return precision, hits / positives if positives else np.zeros_like(hits)


def area_under(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area under the curve's envelope (VOC from 2010 on, VOCap.m)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def at_points(precision: np.ndarray, recall: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(P,): the best precision at a recall of at least each point, 0 where the recall is never reached."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return envelope[np.searchsorted(recall, points, side="left")]


def reference_area(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area as the Keras reference ('integrate') takes it, for comparison with the figures that it reports.

    Between two neighbouring recalls its height is that of the LOWER one: the best precision from there on, the last
    recall's aside.  `area_under` takes the height of the upper one.  What lies below the first recall is left out,
    unless the best detection is false or ignored.
    """
    levels, starts = np.unique(recall, return_index=True)
    if len(levels) < 2:
        return 0.0
    best = np.maximum.accumulate(np.maximum.reduceat(precision, starts)[:-1][::-1])[::-1]
    return float(np.sum(np.diff(levels) * best))


def average_precision(
    outcomes: np.ndarray, positives: float, kind: str = "area", weights: np.ndarray | None = None
) -> float:
    """One class's AP; NaN where there is nothing to find.

    Args:
        outcomes, positives, weights: see `precision_recall`.
        kind: 'area' (VOC from 2010 on), '11_points' (VOC 2007), 'coco' (101 points) or 'reference' (`reference_area`).
    """
    if not positives:
        return float("nan")
    precision, recall = precision_recall(outcomes, positives, weights)
    if kind in _KINDS:
        return _KINDS[kind](precision, recall)
    raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(_KINDS)}")


def mean_of_known(values: Sequence[float]) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


_KINDS = {
    "area": area_under,
    "11_points": lambda precision, recall: float(at_points(precision, recall, ELEVEN_POINTS).mean()),
    "coco": lambda precision, recall: float(at_points(precision, recall, COCO_POINTS).mean()),
    "reference": reference_area,
}
