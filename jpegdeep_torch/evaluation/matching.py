"""Which detections find which objects: the rule of Pascal VOC's development kit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.annotations import AnnotatedImage

HIT, FALSE, IGNORED = 1, 0, -1  # outcomes of a detection


@dataclass(frozen=True)
class ClassMatches:
    """One class's detections over a data set, best score first (equal scores in the order given).

    `scores` (D,) float64; `images` (D,) int64, index of the image; `boxes` (D, 4) float64; `outcomes` (D,) int8, HIT,
    FALSE or IGNORED; `overlaps` (D,) float64, IoU with the object it overlaps most, and `objects` (D,) int64, that
    object's index in its image, -1 for none.  `positives` (images,) int64 counts the objects that are not ignored.
    """

    scores: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    outcomes: np.ndarray
    overlaps: np.ndarray
    objects: np.ndarray
    positives: np.ndarray


def pairwise_iou(boxes: np.ndarray, others: np.ndarray, border_px: float = 1.0) -> np.ndarray:
    """(D, 4), (G, 4) corners -> (D, G) float64.  `border_px`: 1 where the last pixel is part of a box, as in VOC."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = np.clip(high - low + border_px, 0, None).prod(axis=-1)
    area = (boxes[:, 2:] - boxes[:, :2] + border_px).prod(axis=-1)
    other_area = (others[:, 2:] - others[:, :2] + border_px).prod(axis=-1)
    union = area[:, None] + other_area[None] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def match_image(
    detections: Mapping[str, Any], image: AnnotatedImage, iou_threshold: float, border_px: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(outcomes, overlaps, objects), each (D,), of one image's detections, in the order given.

    The kit's rule (VOCevaldet.m): by falling score, a detection belongs to the object of its class that it overlaps
    most.  Below the threshold it is false; on a difficult object ignored; the first on an object is a hit, later ones
    are false.
    """
    scores = np.asarray(detections["scores"], dtype=np.float64)
    boxes = np.asarray(detections["boxes"], dtype=np.float64).reshape(-1, 4)
    labels = np.asarray(detections["labels"])
    count = len(scores)
    outcomes = np.full(count, FALSE, dtype=np.int8)
    if not count or not len(image.labels):
        return outcomes, np.zeros(count), np.full(count, -1, dtype=np.int64)
    same = labels[:, None] == image.labels[None]
    iou = np.where(same, pairwise_iou(boxes, image.boxes.astype(np.float64), border_px), -1.0)
    objects = iou.argmax(axis=1)
    overlaps = iou[np.arange(count), objects]
    found = overlaps >= iou_threshold
    order = np.argsort(-scores, kind="stable")
    candidates = order[(found & ~image.ignore[objects])[order]]
    _, first = np.unique(objects[candidates], return_index=True)
    outcomes[candidates[first]] = HIT
    outcomes[found & image.ignore[objects]] = IGNORED
    objects = np.where(overlaps > 0, objects, -1)
    return outcomes, np.clip(overlaps, 0, None), objects


def match_all(
    images: Sequence[AnnotatedImage],
    detections: Iterable[Mapping[str, Any]],
    num_classes: int,
    iou_threshold: float = 0.5,
    border_px: float = 1.0,
) -> list[ClassMatches]:
    """ClassMatches of labels 1 .. num_classes; `detections` are `{"boxes", "scores", "labels"}`, one for each image."""
    columns: list[list[np.ndarray]] = [[] for _ in range(7)]
    positives = np.zeros((num_classes, len(images)), dtype=np.int64)
    for index, (image, found) in enumerate(zip(images, detections, strict=True)):
        np.add.at(positives, (image.labels[~image.ignore] - 1, index), 1)
        outcome, overlap, obj = match_image(found, image, iou_threshold, border_px)
        values = (
            np.asarray(found["labels"], dtype=np.int64),
            np.asarray(found["scores"], dtype=np.float64),
            np.full(len(outcome), index, dtype=np.int64),
            np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4),
            outcome,
            overlap,
            obj,
        )
        for column, value in zip(columns, values):
            column.append(value)
    if not images:
        raise ValueError("no images to match")
    labels, scores, *rest = (np.concatenate(column) for column in columns)
    matches = []
    for label in range(1, num_classes + 1):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        matches.append(ClassMatches(scores[rows], *(value[rows] for value in rest), positives[label - 1]))
    return matches
