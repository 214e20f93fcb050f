"""What an evaluation leaves behind: one JSON with its figures, and enough of its detections to resample them.

`{"command", "arguments", "machine", "versions", "results": [RESULT], "samples": SAMPLES}`.  RESULT has `task` ('voc',
'coco' or 'imagenet'), `model`, `weights`, `images`, the figures, and a table row for each class.

SAMPLES of a detector has the `names` of the images, the `thresholds` and the `ap_kind` of the mAP that is compared, and
for each class `positives`, [image, objects] pairs, and its detections, the best score first: `scores`, `images`, `hits`
and `neutral` (ignored).  Bit t of the last two is of threshold t.

SAMPLES of a classifier has `names`, `labels`, the `class_names` of those that occur, and `ranks`: the label's place
among the predictions, 0 beyond the fifth.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..utils.environment import run_header
from .coco import CocoResult
from .imagenet import ImageNetResult
from .matching import HIT, IGNORED
from .voc import VocResult

Record = dict[str, Any]


def voc_record(result: VocResult, names: Sequence[str]) -> tuple[Record, Record]:
    """(RESULT, SAMPLES) of a detector on the images `names`."""
    classes, rows = [], []
    for k, (name, match) in enumerate(zip(result.class_names, result.matches)):
        hits, ignored = (match.outcomes == HIT).astype(int), (match.outcomes == IGNORED).astype(int)
        positives = [[int(i), int(match.positives[i])] for i in np.flatnonzero(match.positives)]
        classes.append(_class_samples(name, positives, match.scores, match.images.tolist(), hits, ignored))
        rows.append(_class_row(classes[-1]) | {f"ap_{kind}": result.ap[kind][k] for kind in result.ap})
    figures = {"task": "voc", "images": len(names), **{f"map_{k}": v for k, v in result.mean.items()}, "classes": rows}
    return figures, {"names": list(names), "thresholds": [0.5], "ap_kind": "area", "classes": classes}


def coco_record(result: CocoResult, names: Sequence[str], image_ids: Sequence[int]) -> tuple[Record, Record]:
    """(RESULT, SAMPLES) of a detector on the images `names`."""
    place = {image_id: index for index, image_id in enumerate(image_ids)}
    classes, rows = [], []
    for item in result.classes:
        positives = sorted([place[image], count] for image, count in item.positives.items())
        images = [place[image] for image in item.image_ids.tolist()]
        classes.append(_class_samples(item.name, positives, item.scores, images, item.hits, item.ignore))
        rows.append(_class_row(classes[-1]) | {"ap": item.ap, "ap50": item.ap50})
    figures = {"task": "coco", "images": len(names), "evaluator": result.evaluator, "figures": result.figures}
    samples = {"names": list(names), "thresholds": result.thresholds, "ap_kind": "coco", "classes": classes}
    return figures | {"classes": rows}, samples


def _class_samples(
    name: str, positives: list[list[int]], scores: np.ndarray, images: list[int], hits: np.ndarray, ignored: np.ndarray
) -> Record:
    return {
        "name": name, "positives": positives, "scores": shortened(scores.tolist()), "images": images,
        "hits": hits.tolist(), "neutral": ignored.tolist(),
    }  # fmt: skip


def _class_row(samples: Record) -> Record:
    objects, hits = sum(count for _, count in samples["positives"]), sum(bits & 1 for bits in samples["hits"])
    return {"name": samples["name"], "objects": objects, "detections": len(samples["scores"]), "hits": hits}


def imagenet_record(result: ImageNetResult, names: Sequence[str], class_names: Sequence[str]) -> tuple[Record, Record]:
    """(RESULT, SAMPLES) of a classifier on the images `names`; `class_names` are those of labels 0, 1, ..."""
    correct = result.predictions == result.labels[:, None]
    ranks = np.where(correct.any(axis=1), correct.argmax(axis=1) + 1, 0)
    rows = []
    for label in np.unique(result.labels):
        own = correct[result.labels == label]
        top1, top5 = float(own[:, 0].mean()), float(own.any(axis=1).mean())
        rows.append({"name": class_names[label], "images": len(own), "top1": top1, "top5": top5})
    figures = {"task": "imagenet", "images": len(names), "top1": result.top1, "top5": result.top5, "classes": rows}
    labels, known = result.labels.tolist(), [row["name"] for row in rows]
    return figures, {"names": list(names), "class_names": known, "labels": labels, "ranks": ranks.tolist()}


def make_record(command: str, arguments: Record, figures: Record, samples: Record) -> Record:
    """The whole JSON of a run: `figures` is its RESULT."""
    return run_header(command, arguments) | {"results": [figures], "samples": samples}


def read_record(path: str | os.PathLike[str]) -> Record:
    """An evaluation's JSON; DatasetError where the file is not one."""
    wanted = "expected an evaluation's JSON"
    try:
        record = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}), {wanted}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}), {wanted}") from None
    if not isinstance(record, dict) or not record.get("results") or "names" not in (record.get("samples") or {}):
        raise DatasetError(f"{path}: has no results and samples, {wanted}, of VOC, COCO or ImageNet")
    return record


def shortened(values: Sequence[float]) -> list[float]:
    """To five digits."""
    return [float(f"{value:.5g}") for value in values]
