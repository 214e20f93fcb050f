"""SSD's default boxes and the coding of offsets against them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.config import FEATURE_MAPS, BoxRules, ModelConfig

VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of cx, cy, w, h: what an offset of 1 means


def ssd300_anchors(
    scales: tuple[float, ...], device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(8732, 4): SSD300's anchors of seven `scales`; see `anchor_boxes`."""
    return _anchors(scales, 300, BoxRules(), device, dtype)


def anchor_boxes(
    config: ModelConfig, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(A, 4): cx, cy, w, h as fractions of the image, in the order of the outputs of the detector of `config`.

    SSD paper (arXiv 1512.02325), section 2.2: per aspect ratio a, w = s sqrt(a) and h = s / sqrt(a); for a = 1 a
    second box of scale sqrt(s s'), s' the next map's scale.  The scales are fractions, one per map and one after.
    In float64 they are the reference's to the last bit, which decides between anchors that overlap an object equally.
    """
    return _anchors(config.anchor_scales, config.image_size, config.box_rules, device, dtype)


def _anchors(scales: tuple[float, ...], side: int, rules: BoxRules, device: object, dtype: torch.dtype) -> Tensor:
    levels = []
    for k, level in enumerate(FEATURE_MAPS[side]):
        cells, step = level.cells, side / level.cells if rules.steps == "even" else level.step_px
        sizes = [(scales[k] * side,) * 2, (math.sqrt(scales[k] * scales[k + 1]) * side,) * 2]
        for ratio in (r for each in level.aspect_ratios for r in (each, 1 / each)):
            sizes.append((sizes[0][0] * math.sqrt(ratio), sizes[0][0] / math.sqrt(ratio)))
        centres = torch.linspace(step / 2, (cells - 0.5) * step, cells, dtype=torch.float64)
        cy, cx = torch.meshgrid(centres, centres, indexing="ij")
        centre = torch.stack((cx, cy), dim=-1)[:, :, None].expand(cells, cells, len(sizes), 2)
        size = torch.tensor(sizes, dtype=torch.float64).expand(cells, cells, len(sizes), 2)
        if rules.clip == "sizes":
            size = size.clamp(max=side)
        levels.append(torch.cat((centre, size), dim=-1).reshape(-1, 4))
    corners = to_corners(torch.cat(levels))
    if rules.clip == "corners":
        corners = torch.where(corners >= side, side - 1.0, corners).clamp(min=0)
    elif rules.clip == "image":
        corners = corners.clamp(0, side)
    return to_centres(corners / side).to(device=device, dtype=dtype)


def to_corners(boxes: Tensor) -> Tensor:
    """cx, cy, w, h (..., 4) -> xmin, ymin, xmax, ymax."""
    return torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """xmin, ymin, xmax, ymax (..., 4) -> cx, cy, w, h."""
    return torch.cat(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), dim=-1)


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (..., 4), anchors (..., 4) as cx, cy, w, h -> boxes xmin, ymin, xmax, ymax in the anchors' unit."""
    variances = offsets.new_tensor(VARIANCES)
    scaled = offsets * variances
    centre = scaled[..., :2] * anchors[..., 2:] + anchors[..., :2]
    return to_corners(torch.cat((centre, scaled[..., 2:].exp() * anchors[..., 2:]), dim=-1))


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `decode_boxes`: boxes of positive width and height -> offsets."""
    centres = to_centres(boxes)
    shift = (centres[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    return torch.cat((shift, (centres[..., 2:] / anchors[..., 2:]).log()), dim=-1) / boxes.new_tensor(VARIANCES)
