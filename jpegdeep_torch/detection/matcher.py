"""Which anchor is to find which object: the greedy and the threshold matching of SSD, for whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .anchors import encode_boxes, to_centres, to_corners

BACKGROUND, IGNORED = 0, -1
_NOTHING, _BETWEEN = -1, -2  # in place of an object's number
_CHUNK = 1 << 19  # overlaps worked on at once on a CPU, which stay in its cache


@dataclass
class Targets:
    """What a network is to answer for a batch.

    labels: (N, A) int64, 0 for the background, -1 for an anchor that counts neither way.
    offsets: (N, A, 4) float32 as `detection.anchors.encode_boxes` codes them; zero where the label is not positive.
    """

    labels: Tensor
    offsets: Tensor


def match_anchors(
    boxes: Tensor, labels: Tensor, anchors: Tensor, positive_iou: float = 0.5, negative_iou: float = 0.5
) -> Targets:
    """Matches as SSD does (arXiv 1512.02325, section 2.2), the pairs in order of their overlap.

    Each object takes its best anchor, the best pair first, and an anchor is taken once; then every anchor left whose
    best object overlaps it by `positive_iou` or more joins that object.  Anchors between that and
    `negative_iou` are ignored.

    boxes: (N, M, 4) xmin, ymin, xmax, ymax in the anchors' unit.  labels: (N, M) int64, 0 for rows that hold no object.
    anchors: (A, 4) cx, cy, w, h.  All on one device, boxes and anchors best in float64; nothing is differentiable.

    Overlaps are computed in float64: a box often overlaps several anchors equally, and which of them is the best hangs
    on the last bit.  With float64 boxes and anchors, such as training's, it is the reference's choice; rounded to
    float32 before, 2 to 4 of the golden file's 454 anchors come out differently.
    """
    anchors, boxes = anchors.double(), boxes.double()
    # Through centres and back, as the reference: it changes the last bit, and with it which of two equals is taken.
    corners, object_corners = to_corners(anchors), to_corners(to_centres(boxes))
    object_corners = torch.where((labels > 0)[..., None], object_corners, 0.0)  # overlap nothing
    assigned = _assign(object_corners, corners, positive_iou, negative_iou)
    row, anchor = (assigned >= 0).nonzero(as_tuple=True)
    object_ = assigned[row, anchor]
    target_labels = torch.where(assigned == _BETWEEN, IGNORED, BACKGROUND)
    target_labels[row, anchor] = labels[row, object_]
    offsets = torch.zeros((*assigned.shape, 4), dtype=torch.float32, device=boxes.device)
    offsets[row, anchor] = encode_boxes(boxes[row, object_], anchors[anchor]).float()
    return Targets(target_labels, offsets)


def _assign(boxes: Tensor, anchors: Tensor, positive_iou: float, negative_iou: float) -> Tensor:
    """Corners (N, M, 4) and (A, 4) -> (N, A): the object of each anchor, or _NOTHING, or _BETWEEN."""
    count, most = boxes.shape[:2]
    assigned = torch.full((count, len(anchors)), _NOTHING, dtype=torch.int64, device=boxes.device)
    value, anchor = boxes.new_empty((count, most)), assigned.new_empty((count, most))
    at_once = count if boxes.is_cuda else max(1, _CHUNK // (most * len(anchors)))
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        iou = overlaps(boxes[part], anchors)
        torch.max(iou, dim=2, out=(value[part], anchor[part]))
        best = iou.amax(dim=1)
        if negative_iou < positive_iou:
            assigned[part][best >= negative_iou] = _BETWEEN
        row, column = ((best >= positive_iou) & (best > 0)).nonzero(as_tuple=True)
        assigned[part][row, column] = iou[row, :, column].argmax(dim=1)
    taken = _greedy(value, anchor, boxes, anchors)
    row, object_ = (taken >= 0).nonzero(as_tuple=True)
    assigned[row, taken[row, object_]] = object_
    return assigned


def overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of corners (..., M, 4) and (A, 4) or (..., A, 4) -> (..., M, A)."""
    columns = anchors.mT.contiguous().unsqueeze(-3)  # side by side in memory, which takes half the time

    def side(low: int, high: int) -> Tensor:
        end = torch.minimum(boxes[..., None, high], columns[..., high, :])
        return end.sub_(torch.maximum(boxes[..., None, low], columns[..., low, :])).clamp_(min=0)

    inter = side(0, 2).mul_(side(1, 3))
    union = (_area(boxes)[..., None] + _area(anchors)[..., None, :]).sub_(inter)
    return inter.div_(union)


def _area(corners: Tensor) -> Tensor:
    return (corners[..., 2] - corners[..., 0]) * (corners[..., 3] - corners[..., 1])


def _greedy(value: Tensor, anchor: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """The best pair first -> (N, M): each object's anchor, -1 for objects that overlap none that is left.

    value, anchor: (N, M), each object's largest overlap and where it is; used up.
    """
    count, most = value.shape
    everyone = torch.arange(count, device=boxes.device)
    chosen_by = torch.full((count, most), _NOTHING, dtype=torch.int64, device=boxes.device)
    is_free = torch.ones((count, len(anchors)), dtype=torch.bool, device=boxes.device)
    for _ in range(most):
        overlap, object_ = value.max(dim=1)
        chosen = anchor[everyone, object_]
        valid = overlap > 0
        chosen_by[everyone, object_] = torch.where(valid, chosen, chosen_by[everyone, object_])
        is_free[everyone, chosen] &= ~valid
        value[everyone, object_] = 0
        # Whoever had wanted the same anchor looks for another.
        row, other = ((anchor == chosen[:, None]) & (value > 0)).nonzero(as_tuple=True)
        if len(row):
            rest = overlaps(boxes[row, other, None], anchors)[:, 0].mul_(is_free[row])
            value[row, other], anchor[row, other] = rest.max(dim=1)
    return chosen_by
