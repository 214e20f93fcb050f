"""Two evaluations of the same images side by side, and how sure their difference is.

Paired bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13): the images are drawn
again with replacement, and both evaluations are scored on the same draw.  The interval is that of the differences'
percentiles.  Detections are matched image by image, so a draw is a weight for each image, and nothing is matched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DatasetError
from .average_precision import average_precision, mean_of_known


@dataclass(frozen=True)
class Difference:
    """A figure of both evaluations, `difference` = b - a, and its interval; None where there is nothing to find."""

    name: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def is_sure(self) -> bool:
        """The interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class ComparisonResult:
    """How two evaluations differ.

    task: 'voc', 'coco' or 'imagenet'.
    images, resamples: how many.
    level: of the intervals, such as 0.95.
    total: the differences of the whole: mAP, or top-1 and top-5.
    classes: each class's.
    """

    task: str
    images: int
    resamples: int
    level: float
    total: list[Difference]
    classes: list[Difference]


def compare_records(
    a: dict[str, Any],
    b: dict[str, Any],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> ComparisonResult:
    """Compares two evaluations.

    Args:
        a, b: of `records.read_record`.
        resamples: draws of the bootstrap.
        level: of the intervals.
        seed: of the draws.
        progress: wraps the loop over the draws, as tqdm does.

    Raises:
        DatasetError: the two are not of the same images and classes, or an argument is impossible.
    """
    if resamples < 1 or not 0 < level < 1:
        raise DatasetError(f"resamples is {resamples} and level {level}, expected at least 1 and between 0 and 1")
    task = a["results"][0]["task"]
    if task != b["results"][0]["task"]:
        raise DatasetError(f"one evaluation is of {task}, the other of {b['results'][0]['task']}: expected the same")
    names = a["samples"]["names"]
    _check_same_images(names, b["samples"]["names"])
    order = {name: index for index, name in enumerate(names)}
    scorers = [(_Ranks if task == "imagenet" else _Detections)(r["samples"], order) for r in (a, b)]
    if scorers[0].ground_truth() != scorers[1].ground_truth():
        raise DatasetError("the evaluations know different objects or classes of the same images: expected equal ones")
    generator = np.random.default_rng(seed)
    count = len(names)
    whole = [scorer.score(None) for scorer in scorers]
    draws = np.empty((resamples, 2, len(whole[0])))
    for k in progress(range(resamples)):
        weights = np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64)
        draws[k] = [scorer.score(weights) for scorer in scorers]
    titles, split = scorers[0].titles(), scorers[0].totals
    rows = [_difference(title, whole[0][i], whole[1][i], draws[:, :, i], level) for i, title in enumerate(titles)]
    return ComparisonResult(task, count, resamples, level, rows[:split], rows[split:])


def _difference(name: str, a: float, b: float, draws: np.ndarray, level: float) -> Difference:
    if np.isnan(a) or np.isnan(b):
        return Difference(name, None, None, None, None, None)
    differences = draws[:, 1] - draws[:, 0]
    differences = differences[~np.isnan(differences)]  # draws without any image of a rare class
    tail = (1 - level) / 2
    low, high = np.quantile(differences, (tail, 1 - tail)) if len(differences) else (np.nan, np.nan)
    return Difference(name, float(a), float(b), float(b - a), float(low), float(high))


def _check_same_images(names: list[str], others: list[str]) -> None:
    if sorted(names) != sorted(others):
        only_a, only_b = sorted(set(names) - set(others)), sorted(set(others) - set(names))
        examples = ", ".join((only_a + only_b)[:3])
        raise DatasetError(
            f"the evaluations are of different images ({len(only_a)} only in the first, {len(only_b)} only in the "
            f"second, such as {examples or 'one that stands twice'}): expected the same"
        )
    if len(set(names)) != len(names):
        raise DatasetError("an image name stands twice in the evaluations: expected each once")


class _Detections:
    """The mAP and APs of one evaluation under weights for the images."""

    totals = 1

    def __init__(self, samples: dict[str, Any], order: dict[str, int]):
        place = np.array([order[name] for name in samples["names"]], dtype=np.int64)
        self.kind, self.thresholds = samples["ap_kind"], samples["thresholds"]
        self.classes = []
        for item in sorted(samples["classes"], key=lambda c: c["name"]):
            positives = np.zeros(len(order))
            for image, count in item["positives"]:
                positives[place[image]] = count
            hits, ignored = np.array(item["hits"], np.int64), np.array(item["neutral"], np.int64)
            shifts = range(len(self.thresholds))
            outcomes = [np.where(ignored >> t & 1, -1, hits >> t & 1).astype(np.int8) for t in shifts]
            # What follows the last hit changes no AP.
            outcomes = [o[: np.flatnonzero(o == 1)[-1] + 1 if (o == 1).any() else 0] for o in outcomes]
            images = place[np.array(item["images"], dtype=np.int64)]
            self.classes.append((item["name"], positives, images, outcomes))

    def ground_truth(self) -> object:
        return self.thresholds, self.kind, [(name, positives.tolist()) for name, positives, _, _ in self.classes]

    def titles(self) -> list[str]:
        return ["mAP", *(name for name, _, _, _ in self.classes)]

    def score(self, weights: np.ndarray | None) -> list[float]:
        values = []
        for _, positives, images, outcomes in self.classes:
            objects = positives.sum() if weights is None else positives @ weights
            each = None if weights is None else weights[images]
            aps = [average_precision(o, objects, self.kind, None if each is None else each[: len(o)]) for o in outcomes]
            values.append(float(np.mean(aps)))
        return [mean_of_known(values), *values]


class _Ranks:
    """Top-1 and top-5 of one evaluation under weights for the images, and top-1 of each class."""

    totals = 2

    def __init__(self, samples: dict[str, Any], order: dict[str, int]):
        place = [order[name] for name in samples["names"]]
        self.labels, self.rank = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        self.labels[place], self.rank[place] = samples["labels"], samples["ranks"]
        self.known = np.unique(self.labels)
        self.names = samples["class_names"]

    def ground_truth(self) -> object:
        return self.labels.tolist()

    def titles(self) -> list[str]:
        return ["top-1", "top-5", *self.names]

    def score(self, weights: np.ndarray | None) -> list[float]:
        weights = np.ones(len(self.rank)) if weights is None else weights
        first, hit = weights * (self.rank == 1), weights * (self.rank > 0)
        total = weights.sum()
        size = int(self.known.max()) + 1
        counts = np.bincount(self.labels, weights, size)[self.known]
        hits = np.bincount(self.labels, first, size)[self.known]
        own = np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return [float(first.sum() / total), float(hit.sum() / total), *own.tolist()]
