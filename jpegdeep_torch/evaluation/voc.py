"""Pascal VOC's figures for a whole data set, and the files that its server takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.annotations import AnnotatedImage
from ..utils.files import make_folder, write_text
from .average_precision import average_precision, mean_of_known
from .matching import ClassMatches, match_all

KINDS = ("area", "11_points", "reference")


@dataclass(frozen=True)
class VocResult:
    """Average precision by each of KINDS.

    matches: of each class, what it is computed from.
    ap: `ap[kind][k]` is class k's, NaN where it has no object.
    mean: `mean[kind]` is the mean over the classes that have an object.
    """

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
    """AP of each class by area (VOC from 2010 on), by 11 points (VOC 2007), and as the Keras reference integrates.

    Args:
        images: with their annotations.
        detections: `{"boxes", "scores", "labels"}` of each image, in the images' order, boxes in the annotations'
            convention.
        class_names: of labels 1, 2, ...
        iou_threshold: the least IoU of a hit.
        border_px: see `matching.pairwise_iou`.
    """
    matches = match_all(images, detections, len(class_names), iou_threshold, border_px)
    ap = {kind: [average_precision(m.outcomes, int(m.positives.sum()), kind) for m in matches] for kind in KINDS}
    return VocResult(list(class_names), matches, ap, {kind: mean_of_known(values) for kind, values in ap.items()})


def write_submission(
    folder: str | os.PathLike[str],
    image_set: str,
    names: Sequence[str],
    detections: Iterable[Mapping[str, Any]],
    class_names: Sequence[str],
) -> list[Path]:
    """Writes the kit's results files, comp3_det_SET_CLASS.txt, with a line per detection.

    A line is image, score, xmin, ymin, xmax, ymax.  comp3 is the competition for detectors trained on VOC's own images.

    Returns:
        The files' paths.

    Raises:
        DatasetError: they cannot be written.
    """
    folder = make_folder(folder)
    lines: list[list[str]] = [[] for _ in class_names]
    for name, found in zip(names, detections, strict=True):
        boxes = np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4).tolist()
        for box, score, label in zip(boxes, np.asarray(found["scores"]).tolist(), np.asarray(found["labels"]).tolist()):
            lines[label - 1].append(f"{name} {score:.6f} " + " ".join(f"{value:.2f}" for value in box) + "\n")
    paths = [folder / f"comp3_det_{image_set}_{class_name}.txt" for class_name in class_names]
    return [write_text(path, "".join(rows)) for path, rows in zip(paths, lines)]
