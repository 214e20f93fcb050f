"""COCO's twelve figures, by a maintained evaluator.

hotcoco (Rust) gives pycocotools' numbers to the last bit, and about 70 times as fast: 90,000 detections take 0.2 s, not
14.5 s.  pycocotools itself serves where hotcoco is not installed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import DatasetError, MissingExtra
from .average_precision import precision_recall

FIGURES = (  # in pycocotools' order
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
_EVALUATORS = {  # name -> (module of COCO, module of COCOeval), the fastest first
    "hotcoco": ("hotcoco", "hotcoco"),
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"),
}
_ALL_AREAS = [0, 1e10]


@dataclass(frozen=True)
class CocoClass:
    """One category's AP, and, for the bootstrap, its D detections, best score first.

    ap, ap50: the mean over all IoU thresholds, and that at 0.5; NaN where there is nothing to find.
    scores: (D,) float64.
    image_ids: (D,) int64.
    hits, ignore: (D,) int64; bit t is of `CocoResult.thresholds[t]`.
    positives: {image id: objects to find}.
    """

    name: str
    ap: float
    ap50: float
    scores: np.ndarray
    image_ids: np.ndarray
    hits: np.ndarray
    ignore: np.ndarray
    positives: dict[int, int]

    def curve50(self) -> tuple[np.ndarray, np.ndarray]:
        """(precision, recall) at an IoU of 0.5."""
        outcomes = np.where(self.ignore & 1, -1, self.hits & 1)
        return precision_recall(outcomes, sum(self.positives.values()))


@dataclass(frozen=True)
class CocoResult:
    """What the evaluator says.

    figures: by the names in FIGURES; -1 where there is no object of that size, as pycocotools has it.
    classes: in label order.
    thresholds: of IoU.
    evaluator: its name.
    """

    figures: dict[str, float]
    classes: list[CocoClass]
    thresholds: list[float]
    evaluator: str


def find_evaluator(name: str | None = None) -> tuple[str, ModuleType, ModuleType]:
    """(name, module of COCO, module of COCOeval) of the evaluator asked for, or of the fastest that is installed.

    Raises:
        DatasetError: there is no evaluator of that name.
        MissingExtra: it is not installed.
    """
    if name is not None and name not in _EVALUATORS:
        raise DatasetError(f"unknown evaluator {name!r}: expected one of {', '.join(_EVALUATORS)}")
    for candidate in [name] if name else _EVALUATORS:
        try:
            coco, cocoeval = (importlib.import_module(module) for module in _EVALUATORS[candidate])
            return candidate, coco, cocoeval
        except ImportError:
            continue
    wanted = name or " or ".join(_EVALUATORS)
    raise MissingExtra(f"COCO's figures need {wanted}, which is not installed: pip install 'jpegdeep-torch[eval]'")


def evaluate_coco(
    annotations: str | os.PathLike[str] | dict[str, Any],
    results: list[dict[str, Any]],
    category_ids: Sequence[int | None],
    class_names: Sequence[str],
    image_ids: Sequence[int] | None = None,
    evaluator: str | None = None,
) -> CocoResult:
    """Scores detections against annotations.

    Args:
        annotations: the path of COCO's JSON, or contents like that file's (`data.coco.CocoSet.annotations`).
        results: the detections, from `data.coco.coco_results`.
        category_ids, class_names: of labels 1, 2, ...; a label whose category is None is no class.
        image_ids: the images that count (default: all of the file).
        evaluator: 'hotcoco' or 'pycocotools' (default: the first that is installed).

    Raises:
        MissingExtra: no evaluator is installed.
    """
    name, coco_module, eval_module = find_evaluator(evaluator)
    with contextlib.redirect_stdout(io.StringIO()):  # both tell their progress on stdout
        ground_truth = _indexed(coco_module, annotations)
        # pycocotools fails on an empty list of results
        found = (
            ground_truth.loadRes(results)
            if results
            else _indexed(coco_module, ground_truth.dataset | {"annotations": []})
        )
        run = eval_module.COCOeval(ground_truth, found, "bbox")
        if image_ids is not None:
            run.params.imgIds = sorted(image_ids)
        run.evaluate()
        run.accumulate()
        run.summarize()
        matched = run
        if name == "hotcoco":
            # It matches in no time, but takes 10 us per entry to hand its matches over: ask for a quarter of them.
            matched, areas = eval_module.COCOeval(ground_truth, found, "bbox"), ([_ALL_AREAS], ["all"])
            matched.params.imgIds, (matched.params.areaRng, matched.params.areaRngLbl) = run.params.imgIds, areas
            matched.evaluate()
    figures = {key: float(value) for key, value in zip(FIGURES, run.stats)}
    named = [(k, name) for k, name in zip(category_ids, class_names, strict=True) if k is not None]
    classes = _by_class(run, matched, [k for k, _ in named], [name for _, name in named])
    return CocoResult(figures, classes, [float(t) for t in run.params.iouThrs], name)


def _indexed(coco_module: ModuleType, annotations: str | os.PathLike[str] | dict[str, Any]) -> Any:
    """The evaluator's COCO of a file or of contents."""
    if not isinstance(annotations, dict):
        return coco_module.COCO(os.fspath(annotations))
    coco = coco_module.COCO()
    coco.dataset = annotations
    coco.createIndex()
    return coco


def _by_class(run: Any, matched: Any, category_ids: Sequence[int], class_names: Sequence[str]) -> list[CocoClass]:
    precision = np.asarray(run.eval["precision"])[:, :, :, 0, -1]  # (thresholds, recalls, categories), all areas
    columns = {int(category): column for column, category in enumerate(run.params.catIds)}
    most = run.params.maxDets[-1]
    entries: dict[int, list[Any]] = {category: [] for category in category_ids}
    for entry in matched.evalImgs:
        if entry is not None and list(entry["aRng"]) == _ALL_AREAS and entry["category_id"] in entries:
            entries[int(entry["category_id"])].append(entry)
    classes = []
    for category, name in zip(category_ids, class_names, strict=True):
        column = precision[:, :, columns[category]]
        ap = column.mean() if (column > -1).any() else np.nan
        ap50 = column[0].mean() if (column[0] > -1).any() else np.nan
        rows = sorted(entries[category], key=lambda entry: entry["image_id"])
        classes.append(CocoClass(name, float(ap), float(ap50), *_outcomes(rows, most)))
    return classes


def _outcomes(rows: list[Any], most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[int, int]]:
    """CocoClass's `scores`, `image_ids`, `hits`, `ignore` and `positives` of one category's entries of evalImgs."""
    columns, positives = [(np.empty(0), *[np.empty(0, np.int64)] * 3)], {}
    for row in rows:
        score = np.asarray(row["dtScores"], dtype=np.float64)[:most]
        bits = 1 << np.arange(len(row["dtMatches"]), dtype=np.int64)[:, None]
        matched = np.asarray(row["dtMatches"], dtype=np.float64).reshape(len(bits), -1)[:, :most] > 0
        of_crowds = np.asarray(row["dtIgnore"], dtype=bool).reshape(len(bits), -1)[:, :most]
        hits, ignored = ((matched & ~of_crowds) * bits).sum(axis=0), (of_crowds * bits).sum(axis=0)
        columns.append((score, np.full(len(score), int(row["image_id"]), dtype=np.int64), hits, ignored))
        positives[int(row["image_id"])] = int((~np.asarray(row["gtIgnore"], dtype=bool)).sum())
    scores, images, hits, ignored = (np.concatenate(column) for column in zip(*columns))
    order = np.argsort(-scores, kind="stable")
    positives = {image: count for image, count in positives.items() if count}
    return scores[order], images[order], hits[order], ignored[order], positives
