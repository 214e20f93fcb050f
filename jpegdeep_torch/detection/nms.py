"""Logits and offsets -> detections: softmax, threshold, decoding, and per-class NMS with the meaning of TensorFlow's
`combined_non_max_suppression`, as the Keras originals used it.

No loop runs over classes, anchors or images.  Most anchors are background so surely that no class of theirs can pass
the threshold, which one subtraction tells: softmax and all that follows see the others alone.  Greedy NMS only looks
back, to boxes of higher score, so a prefix of the candidates in order of score gives a prefix of the result: the work
is done on the best few hundred candidates of each image, and repeated on more only for images where too few survive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor

from .anchors import decode_boxes

_FIRST_PREFIX = 512  # candidates an image; a trained SSD300 has about 400
_MOST_PAIRWISE = 2048  # candidates an image for which all pairs are held in memory
_FEW = 0.25  # of the anchors: past it, picking them out costs more than it saves
_MARGIN = 1e-3  # of logits, against rounding: an anchor within it is looked at


@dataclass(frozen=True)
class NMSConfig:
    """The reference's settings: scores above `score_threshold`; a box is suppressed where its IoU with a better one of
    its class exceeds `iou_threshold`; at most `max_per_class` and `max_total` detections an image."""

    score_threshold: float = 0.01
    iou_threshold: float = 0.45
    max_per_class: int = 400
    max_total: int = 200
    cut_first: bool = False  # boxes are cut to the image before they are compared, as torchvision does


def suppress(boxes: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Greedy per-class NMS of candidates sorted by falling score.

    boxes (N, K, 4) xmin, ymin, xmax, ymax; labels (N, K), negative for padding -> kept (N, K) bool.
    """
    if boxes.device.type == "cpu" or boxes.shape[1] > _MOST_PAIRWISE:
        return suppress_in_order(boxes, labels, iou_threshold)
    return suppress_at_once(boxes, labels, iou_threshold)


def suppress_at_once(boxes: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """`suppress` of all images in a few operations on all pairs: what a GPU wants.

    Box j falls iff a kept box i < j of its class has IoU > threshold.  Starting from 'all kept' and applying this rule
    to all boxes at once fixes at least the next undecided box each time; the first fixed point is the greedy result.
    """
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    union = area[:, :, None] + area[:, None] - overlap
    # TensorFlow gives boxes without area an IoU of 0; here 0 / 0 is NaN, which exceeds nothing.
    beats = (overlap / union > iou_threshold) & (labels[:, :, None] == labels[:, None])
    beats = beats.triu(diagonal=1)
    valid = labels >= 0
    kept = valid
    while True:
        after = valid & ~(beats & kept[:, :, None]).any(dim=1)
        if torch.equal(after, kept):
            return kept
        kept = after


def suppress_in_order(boxes: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """`suppress` by torchvision's NMS, an image at a time: the cheapest on a CPU, and needs no memory for pairs.

    The classes are moved apart so that no two overlap, in float64, where that moves no IoU past a threshold.
    """
    kept = torch.zeros_like(labels, dtype=torch.bool)
    falling = -torch.arange(labels.shape[1], device=labels.device, dtype=torch.float64)
    for image_boxes, image_labels, image_kept in zip(boxes, labels, kept):
        real = (image_labels >= 0).nonzero().squeeze(1)
        if len(real):
            wide = image_boxes[real].double()
            apart = wide + (image_labels[real] * (wide.abs().max() * 2 + 1))[:, None]
            image_kept[real[torchvision.ops.nms(apart, falling[: len(real)], iou_threshold)]] = True
    return kept


def _rank_in_class(labels: Tensor, kept: Tensor) -> Tensor:
    """(N, K) -> how many kept boxes of the same class stand before each."""
    by_label, order = labels.sort(dim=1, stable=True)
    counted = kept.gather(1, order).long()
    before = counted.cumsum(dim=1) - counted
    starts = torch.ones_like(kept)
    starts[:, 1:] = by_label[:, 1:] != by_label[:, :-1]
    rank = before - torch.where(starts, before, 0).cummax(dim=1).values
    return torch.empty_like(rank).scatter_(1, order, rank)


def _best_candidates(scores: Tensor, above: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """scores and `above`, which of them count, (N, M) -> (scores (N, K) falling, -1 for padding; their columns (N, K);
    candidates (N,) in all).

    K <= limit.  Equal scores keep their order.
    """
    total = above.sum(dim=1)
    most = int(total.max()) if len(total) else 0
    if most > limit:
        best, columns = torch.where(above, scores, -1.0).topk(limit, dim=1)  # selects without sorting the rest
        return best, columns, total
    columns, filled = _packed(above, total, most)
    best, order = torch.where(filled, scores.gather(1, columns), -1.0).sort(dim=1, descending=True, stable=True)
    return best, columns.gather(1, order), total


def _packed(chosen: Tensor, total: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """chosen (N, M) bool, of which each row has `total` (N,), `most` at most -> (their columns (N, most) in order, 0
    where there are no more; filled (N, most) bool)."""
    rows, columns = chosen.nonzero(as_tuple=True)
    place = torch.arange(len(rows), device=rows.device) - (total.cumsum(0) - total)[rows]
    packed = columns.new_zeros((len(chosen), most))
    packed[rows, place] = columns
    return packed, torch.arange(most, device=rows.device) < total[:, None]


def _promising(logits: Tensor, offsets: Tensor, anchors: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """logits (N, A, C + 1), offsets (N, A, 4), anchors (A, 4) -> the same (N, K, ...), of the anchors of which some
    class may score above `threshold`, in their order; logits of padding are the background's.

    The score of a class is at most exp(its logit - the background's).  Where that leaves many, as in a network without
    training, all are given.
    """
    lead = logits[..., 1:].amax(dim=-1) - logits[..., 0]
    chosen = lead > (math.log(threshold) - _MARGIN if threshold > 0 else -math.inf)
    total = chosen.sum(dim=1)
    most = int(total.max()) if len(total) else 0
    if most > _FEW * logits.shape[1]:
        return logits, offsets, anchors.expand(len(logits), -1, -1)
    columns, filled = _packed(chosen, total, most)
    picked = logits.gather(1, columns[:, :, None].expand(-1, -1, logits.shape[2]))
    picked[..., 1:].masked_fill_(~filled[:, :, None], -math.inf)
    return picked, offsets.gather(1, columns[:, :, None].expand(-1, -1, 4)), anchors[columns]


@torch.no_grad()
def detect(
    class_logits: Tensor,
    box_offsets: Tensor,
    anchors: Tensor,
    image_sizes: Tensor | list[tuple[int, int]] | None = None,
    config: NMSConfig = NMSConfig(),
    *,
    clip: bool = True,
) -> list[dict[str, Tensor]]:
    """A network's outputs -> detections, best first.

    Args:
        class_logits: (N, A, C + 1), any floating dtype; class 0 is the background.
        box_offsets: (N, A, 4).
        anchors: (A, 4) cx, cy, w, h as fractions of the image (`ssd300_anchors`).
        image_sizes: (N, 2) height and width in pixels of the original images; without, boxes are fractions.
        config: thresholds and limits.
        clip: cut boxes to the image, after NMS (the reference does not cut).

    Returns:
        N dicts `{"boxes": (K, 4) float32 xmin, ymin, xmax, ymax, "scores": (K,) float32, "labels": (K,) int64 from 1}`.
    """
    count, _, outputs = class_logits.shape
    logits, offsets = class_logits.float(), box_offsets.float()
    logits, offsets, anchors = _promising(logits, offsets, anchors.to(logits), config.score_threshold)
    scores = logits.softmax(dim=-1)
    above = scores > config.score_threshold
    above[..., 0] = False  # the background
    scores, above = scores.flatten(1), above.flatten(1)
    sizes = _scale(image_sizes, count, scores.device)
    results: list[dict[str, Tensor]] = [{} for _ in range(count)]
    images, limit = list(range(count)), _FIRST_PREFIX
    while images:
        best, columns, total = _best_candidates(scores, above, limit)
        labels = torch.where(best > config.score_threshold, columns % outputs, -1)
        at = torch.div(columns, outputs, rounding_mode="floor")
        at = at[:, :, None].expand(-1, -1, 4)
        boxes = decode_boxes(offsets.gather(1, at), anchors.gather(1, at))
        if config.cut_first:
            boxes = boxes.clamp(0.0, 1.0)
        kept = suppress(boxes, labels, config.iou_threshold)
        if config.max_per_class < config.max_total:
            kept = kept & (_rank_in_class(labels, kept) < config.max_per_class)
        complete = ((kept.sum(dim=1) >= config.max_total) | (total <= limit)).tolist()
        for i, image in enumerate(images):
            if complete[i]:
                results[image] = _pick(boxes[i], best[i], labels[i], kept[i], config.max_total, sizes[image], clip)
        again = [i for i, done in enumerate(complete) if not done]
        images = [images[i] for i in again]
        if images:
            scores, above, offsets, anchors = scores[again], above[again], offsets[again], anchors[again]
        limit *= 4
    return results


def _pick(
    boxes: Tensor, scores: Tensor, labels: Tensor, kept: Tensor, most: int, size: Tensor, clip: bool
) -> dict[str, Tensor]:
    chosen = kept.nonzero().squeeze(1)[:most]
    picked = boxes[chosen]
    if clip:
        picked = picked.clamp(0.0, 1.0)
    return {"boxes": picked * size, "scores": scores[chosen], "labels": labels[chosen]}


def _scale(image_sizes: Tensor | list[tuple[int, int]] | None, count: int, device: torch.device) -> Tensor:
    """(N, 4): what turns fractions into pixels."""
    if image_sizes is None:
        return torch.ones(count, 4, device=device)
    sizes = torch.as_tensor(image_sizes, dtype=torch.float32, device=device)
    if sizes.shape != (count, 2):
        raise ValueError(f"image_sizes is of shape {tuple(sizes.shape)}, expected ({count}, 2): height and width each")
    return sizes.flip(1).repeat(1, 2)
