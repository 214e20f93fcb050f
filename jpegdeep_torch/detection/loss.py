"""The multibox loss: softmax log loss with hard negatives, and smooth L1 on the offsets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from ..utils.distributed import all_gathered, all_summed, world_size
from ..utils.settings import setting
from .anchors import VARIANCES, decode_boxes
from .matcher import BACKGROUND, IGNORED, Targets

_LARGEST_LOG_RATIO = math.log(1000 / 16)  # of a side against the anchor's: torchvision's BoxCoder, after Detectron
BOX_LOSSES = ("smooth_l1", "giou")
CLASS_LOSSES = ("cross_entropy", "focal")


@dataclass(frozen=True)
class LossConfig:
    """The defaults are the reference's.

    negatives_per_positive: of the background's anchors only those of the largest loss count, so many for each positive
        one, over the whole batch of all processes.
    box_weight: the weight of the boxes' loss against the classes'.
    box_loss: 'smooth_l1' on the offsets, or 'giou' on the boxes (arXiv 1902.09630).
    class_loss: 'cross_entropy', or 'focal': (1 - p)^focal_gamma times it, over all anchors (arXiv 1708.02002, with
        softmax in place of its sigmoids).
    """

    positive_iou: float = setting(0.5, above=0, high=1)
    negative_iou: float = setting(0.5, low=0, high=1)
    negatives_per_positive: float = setting(3.0, above=0)
    box_weight: float = setting(1.0, low=0)
    box_loss: str = setting("smooth_l1", choices=BOX_LOSSES)
    class_loss: str = setting("cross_entropy", choices=CLASS_LOSSES)
    focal_gamma: float = setting(2.0, low=0)


@dataclass
class Loss:
    """`total` is what to differentiate; in a process group, the mean of all processes' totals is the batch's loss.

    class_per_image, box_per_image: (N,), whose sum over all images is the batch's loss.
    """

    total: Tensor
    class_per_image: Tensor
    box_per_image: Tensor
    positives: Tensor


def multibox_loss(
    logits: Tensor,
    offsets: Tensor,
    targets: Targets,
    anchors: Tensor,
    config: LossConfig = LossConfig(),
    *,
    together: bool = True,
) -> Loss:
    """The loss of a batch: sum over positives and hardest negatives, divided by the positives (SSD, equations 1 to 3).

    logits: (N, A, C + 1), offsets: (N, A, 4), computed on in float32.  anchors: (A, 4), needed for 'giou' alone.
    together: whether the batches of all processes count as one; then each of them has to call this at the same time.
    """
    logits, offsets = logits.float(), offsets.float()
    positive = targets.labels > BACKGROUND
    positives = all_summed(positive.sum()) if together else positive.sum()
    classes = F.cross_entropy(
        logits.flatten(0, 1), targets.labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(positive)
    if config.class_loss == "focal":
        classes = classes * (1 - torch.exp(-classes)) ** config.focal_gamma
        counted = targets.labels != IGNORED
    else:
        counted = positive | _hardest_negatives(
            classes, targets, int(config.negatives_per_positive * positives), together
        )
    row, anchor = positive.nonzero(as_tuple=True)
    boxes = _box_loss(offsets[row, anchor], targets.offsets[row, anchor], anchors[anchor], config)
    divisor = positives.clamp(min=1)
    class_per_image = (classes * counted).sum(dim=1) / divisor
    box_per_image = config.box_weight * boxes.new_zeros(len(logits)).index_add(0, row, boxes) / divisor
    total = class_per_image.sum() + box_per_image.sum()
    if together:
        total = (
            total * world_size()
        )  # gradients are averaged over the processes, and the loss is a sum over their images
    return Loss(total, class_per_image, box_per_image, positives)


def _hardest_negatives(classes: Tensor, targets: Targets, most: int, together: bool) -> Tensor:
    """Bool (N, A): the background's anchors of the largest loss, in the batches of all processes if `together`."""
    losses = torch.where(targets.labels == BACKGROUND, classes.detach(), 0.0)
    everyone, own = all_gathered(losses.flatten()) if together else (losses.flatten(), slice(None))
    count = min(most, int((everyone > 0).sum()))
    chosen = torch.zeros_like(everyone, dtype=torch.bool)
    chosen[everyone.topk(count, sorted=False).indices] = True
    return chosen[own].view_as(losses)


def _box_loss(offsets: Tensor, wanted: Tensor, anchors: Tensor, config: LossConfig) -> Tensor:
    """(P, 4) each -> (P,)."""
    if config.box_loss == "giou":
        # Sizes come by exp(), which soon is infinite: larger boxes count as boxes of the largest size.
        sizes = offsets[:, 2:].clamp(max=_LARGEST_LOG_RATIO / VARIANCES[2])
        offsets = torch.cat((offsets[:, :2], sizes), dim=1)
        return generalized_box_iou_loss(decode_boxes(offsets, anchors), decode_boxes(wanted, anchors))
    return F.smooth_l1_loss(offsets, wanted, reduction="none").sum(dim=1)
