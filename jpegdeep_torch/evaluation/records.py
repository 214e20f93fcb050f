"""What an evaluation leaves behind: one JSON with its figures, and enough of its detections to resample them.

`{"command", "arguments", "machine", "versions", "results": [RESULT], "samples": SAMPLES}`.  A RESULT has `task` ('voc',
'coco' or 'imagenet'), `model`, `weights`, `images`, the figures, and a row for each class.

SAMPLES of a detector: `names` of the images, `thresholds` and `ap_kind` of the mAP that is compared, and for each class
`positives` ([image, objects] pairs) and, in order of score, `scores`, `images`, and `hits` and `neutral` (bit t: at
threshold t).  Of a classifier: `names`, `labels`, the `class_names` of those that occur, and `ranks`: the label's place
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
from .voc import VocResult


def voc_record(result: VocResult, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(figures, samples)."""
    rows, classes = [], []
    for k, (name, match) in enumerate(zip(result.class_names, result.matches)):
        hit = match.outcomes == 1
        rows.append(
            {
                "name": name,
                "objects": int(match.positives.sum()),
                "detections": len(match.scores),
                "hits": int(hit.sum()),
                **{f"ap_{kind}": result.ap[kind][k] for kind in result.ap},
            }
        )
        classes.append(
            {
                "name": name,
                "positives": [[int(i), int(match.positives[i])] for i in np.flatnonzero(match.positives)],
                "scores": shortened(match.scores.tolist()),
                "images": match.images.tolist(),
                "hits": hit.astype(int).tolist(),
                "neutral": (match.outcomes < 0).astype(int).tolist(),
            }
        )
    figures = {"task": "voc", "images": len(names), **{f"map_{k}": v for k, v in result.mean.items()}, "classes": rows}
    return figures, {"names": list(names), "thresholds": [0.5], "ap_kind": "area", "classes": classes}


def coco_record(result: CocoResult, names: Sequence[str], image_ids: Sequence[int]) -> tuple[dict, dict]:
    """(figures, samples)."""
    place = {image_id: index for index, image_id in enumerate(image_ids)}
    rows, classes = [], []
    for item in result.classes:
        objects = sum(item.positives.values())
        rows.append(
            {
                "name": item.name, "objects": objects, "detections": len(item.scores),
                "hits": int((item.hits & 1).sum()), "ap": item.ap, "ap50": item.ap50,
            }
        )  # fmt: skip
        classes.append(
            {
                "name": item.name,
                "positives": sorted([place[image], count] for image, count in item.positives.items()),
                "scores": shortened(item.scores.tolist()),
                "images": [place[image] for image in item.image_ids.tolist()],
                "hits": item.hits.tolist(),
                "neutral": item.ignore.tolist(),
            }
        )
    figures = {
        "task": "coco", "images": len(names), "evaluator": result.evaluator, "figures": result.figures, "classes": rows,
    }  # fmt: skip
    return figures, {
        "names": list(names), "thresholds": result.thresholds, "ap_kind": "coco", "classes": classes,
    }  # fmt: skip


def imagenet_record(result: ImageNetResult, names: Sequence[str], class_names: Sequence[str]) -> tuple[dict, dict]:
    """(figures, samples): per class the share of hits, and of each image the place of its label, 0 where beyond 5."""
    correct = result.predictions == result.labels[:, None]
    rank = np.where(correct.any(axis=1), correct.argmax(axis=1) + 1, 0)
    rows = []
    for k in np.unique(result.labels):
        own = correct[result.labels == k]
        rows.append(
            {
                "name": class_names[k], "images": len(own),
                "top1": float(own[:, 0].mean()), "top5": float(own.any(axis=1).mean()),
            }
        )  # fmt: skip
    figures = {"task": "imagenet", "images": len(names), "top1": result.top1, "top5": result.top5, "classes": rows}
    return figures, {
        "names": list(names), "class_names": [row["name"] for row in rows], "labels": result.labels.tolist(),
        "ranks": rank.tolist(),
    }  # fmt: skip


def make_record(
    command: str, arguments: dict[str, Any], figures: dict[str, Any], samples: dict[str, Any]
) -> dict[str, Any]:
    """The whole JSON of a run."""
    return run_header(command, arguments) | {"results": [figures], "samples": samples}


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """An evaluation's JSON; DatasetError where the file is not one."""
    try:
        record = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror or error}), expected an evaluation's JSON"
        ) from None
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(record, dict) or not record.get("results") or "names" not in (record.get("samples") or {}):
        raise DatasetError(
            f"{path}: not an evaluation's JSON, expected what eval.voc, eval.coco or eval.imagenet write"
        )
    return record


def shortened(values: Sequence[float]) -> list[float]:
    """To five digits."""
    return [float(f"{value:.5g}") for value in values]
