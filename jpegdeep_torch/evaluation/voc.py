"""Pascal VOC's figures for a whole data set, and the files that its server takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.annotations import AnnotatedImage
from ..errors import DatasetError
from .average_precision import average_precision
from .matching import ClassMatches, match_all

KINDS = ("area", "11_points", "reference")


@dataclass(frozen=True)
class VocResult:
    """`ap[kind][k]`: class k's AP, NaN where it has no object; `mean[kind]` over the classes that have one."""

    class_names: list[str]
    matches: list[ClassMatches]
    ap: dict[str, list[float]]
    mean: dict[str, float]


def evaluate_voc(
    images: Sequence[AnnotatedImage],
    detections: Iterable[Mapping[str, Any]],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
    border_px: float = 1.0,
) -> VocResult:
    """AP per class by area (VOC from 2010 on), by 11 points (VOC 2007), and as the Keras reference integrates.

    `detections`: one `{"boxes", "scores", "labels"}` an image, in the images' order, boxes in the annotations'
    convention.
    """
    matches = match_all(images, detections, len(class_names), iou_threshold, border_px)
    ap = {kind: [average_precision(m.outcomes, int(m.positives.sum()), kind) for m in matches] for kind in KINDS}
    mean = {kind: float(np.mean(known)) if (known := _known(values)) else float("nan") for kind, values in ap.items()}
    return VocResult(list(class_names), matches, ap, mean)


def _known(values: list[float]) -> list[float]:
    return [value for value in values if not np.isnan(value)]


def write_submission(
    folder: str | os.PathLike[str],
    image_set: str,
    names: Sequence[str],
    detections: Iterable[Mapping[str, Any]],
    class_names: Sequence[str],
) -> list[Path]:
    """The kit's results files, comp3_det_SET_CLASS.txt: image, score, xmin, ymin, xmax, ymax a line.

    comp3 is the competition for detectors trained on VOC's own pictures.
    """
    folder = Path(folder)
    lines: list[list[str]] = [[] for _ in class_names]
    for name, found in zip(names, detections, strict=True):
        boxes = np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4).tolist()
        for box, score, label in zip(boxes, np.asarray(found["scores"]).tolist(), np.asarray(found["labels"]).tolist()):
            lines[label - 1].append(f"{name} {score:.6f} " + " ".join(f"{value:.2f}" for value in box) + "\n")
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for class_name, rows in zip(class_names, lines):
            path = folder / f"comp3_det_{image_set}_{class_name}.txt"
            path.write_text("".join(rows), encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise DatasetError(f"{folder}: the submission cannot be written ({error})") from None
    return paths
