"""A detector without training whose outputs cost the rest of the path what a trained one's do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jpegdeep_torch.models import create_model
from jpegdeep_torch.models.ssd import rows

SCORES_PAST_THRESHOLD = 400  # per image, of 174,640 (VOC): about what a trained SSD300 leaves to NMS
_THRESHOLD = 0.01


def seeded_detector(name: str, inputs: Sequence[Tensor], seed: int = 0, **arguments: object) -> nn.Module:
    """`create_model(name, seed=seed, ...)` in eval mode, its heads fitted to `inputs`, a batch of prepared images."""
    model = create_model(name, seed=seed, **arguments).eval()
    fit_heads(model, inputs)
    return model


@torch.inference_mode()
def fit_heads(model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Changes a fresh detector's heads so that 400 scores per image of `inputs` exceed 0.01.

    Fresh heads would let every score past the threshold, and a benchmark would time NMS on 174,640 boxes.  Each head is
    scaled to outputs of unit variance.  Then one constant, found by bisection, is added to all background biases.
    """
    maps = model.feature_maps(*inputs)
    for heads in (model.class_heads, model.box_heads):
        for head, features in zip(heads, maps):
            head.weight.div_(head(features).std().clamp(min=1e-6))
    outputs = model.config.num_classes + 1
    logits = [rows(head(features), outputs) for head, features in zip(model.class_heads, maps)]
    shift = background_shift(torch.cat(logits, dim=1))
    for head, boxes in zip(model.class_heads, (level.boxes for level in model.config.feature_maps)):
        head.bias.view(boxes, outputs)[:, 0] += shift


def background_shift(logits: Tensor) -> float:
    """What to add to class 0 of (N, A, C + 1) logits so that 400 scores per image exceed 0.01."""
    wanted = SCORES_PAST_THRESHOLD * len(logits)
    low, high = -50.0, 50.0  # a score falls as the shift grows
    for _ in range(40):
        middle = (low + high) / 2
        moved = logits.clone()
        moved[..., 0] += middle
        past = int((moved.softmax(dim=-1)[..., 1:] > _THRESHOLD).sum())
        low, high = (middle, high) if past > wanted else (low, middle)
    return (low + high) / 2
