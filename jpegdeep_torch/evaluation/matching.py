"""Which detections find which objects: the rule of Pascal VOC's development kit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from ..data.annotations import AnnotatedImage

HIT, FALSE, IGNORED = 1, 0, -1  # outcomes of a detection


@dataclass(frozen=True)
class ClassMatches:
    """The D detections of one class over a data set, best score first; equal scores in the order given.

    scores: (D,) float64.
    images: (D,) int64, index of the image.
    boxes: (D, 4) float64.
    outcomes: (D,) int8, HIT, FALSE or IGNORED.
    overlaps: (D,) float64, IoU with the object that the detection overlaps most.
    objects: (D,) int64, that object's index in its image, -1 for none.
    positives: (number of images,) int64, how many objects of each image count, that is, are not ignored.
    """

    scores: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    outcomes: np.ndarray
    overlaps: np.ndarray
    objects: np.ndarray
    positives: np.ndarray


def pairwise_iou(boxes: np.ndarray, others: np.ndarray, border_px: float = 1.0) -> np.ndarray:
    """(D, 4), (G, 4) corners -> (D, G) IoU, float64.

    border_px: 1 where the last pixel is part of a box, as in VOC; 0 where corners are edges, as in COCO.
    """
    border = np.array((0, 0, border_px, border_px))
    iou = box_iou(torch.from_numpy(boxes + border), torch.from_numpy(others + border))
    return iou.nan_to_num(0.0).numpy()  # two boxes without area


def match_image(
    detections: Mapping[str, Any], image: AnnotatedImage, iou_threshold: float, border_px: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(outcomes, overlaps, objects), each (D,), of one image's detections, in the order given.

    The kit's rule (VOCevaldet.m): by falling score, a detection belongs to the object of its class that it overlaps
    most.  Below the threshold it is false.  On a difficult object it is ignored.  The first on an object is a hit,
    later ones are false.
    """
    boxes, scores, labels = _arrays(detections)
    count = len(scores)
    outcomes = np.full(count, FALSE, dtype=np.int8)
    if not count or not len(image.labels):
        return outcomes, np.zeros(count), np.full(count, -1, dtype=np.int64)
    same = labels[:, None] == image.labels[None]
    iou = np.where(same, pairwise_iou(boxes, image.boxes, border_px), -1.0)
    objects = iou.argmax(axis=1)
    overlaps = iou[np.arange(count), objects]
    found = overlaps >= iou_threshold
    order = np.argsort(-scores, kind="stable")
    candidates = order[(found & ~image.ignore[objects])[order]]
    _, first = np.unique(objects[candidates], return_index=True)
    outcomes[candidates[first]] = HIT
    outcomes[found & image.ignore[objects]] = IGNORED
    return outcomes, np.clip(overlaps, 0, None), np.where(overlaps > 0, objects, -1)


def match_all(
    images: Sequence[AnnotatedImage],
    detections: Iterable[Mapping[str, Any]],
    num_classes: int,
    iou_threshold: float = 0.5,
    border_px: float = 1.0,
) -> list[ClassMatches]:
    """ClassMatches of labels 1 to `num_classes`.

    Args:
        detections: `{"boxes", "scores", "labels"}` of each image, in the images' order.
        iou_threshold: the least IoU of a hit.
        border_px: see `pairwise_iou`.
    """
    if not images:
        raise ValueError("no images to match")
    columns: list[tuple[np.ndarray, ...]] = []
    positives = np.zeros((num_classes, len(images)), dtype=np.int64)
    for index, (image, found) in enumerate(zip(images, detections, strict=True)):
        np.add.at(positives, (image.labels[~image.ignore] - 1, index), 1)
        boxes, scores, labels = _arrays(found)
        matched = match_image(found, image, iou_threshold, border_px)
        columns.append((labels, scores, np.full(len(scores), index, dtype=np.int64), boxes, *matched))
    labels, scores, *rest = (np.concatenate(column) for column in zip(*columns))
    matches = []
    for label in range(1, num_classes + 1):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        matches.append(ClassMatches(scores[rows], *(value[rows] for value in rest), positives[label - 1]))
    return matches


def _arrays(found: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (D, 4), scores (D,), labels (D,))."""
    boxes, scores = (np.asarray(found[key], dtype=np.float64) for key in ("boxes", "scores"))
    return boxes.reshape(-1, 4), scores, np.asarray(found["labels"], dtype=np.int64)
