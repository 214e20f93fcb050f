"""SSD300's default boxes and the coding of offsets against them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEATURE_MAPS = (38, 19, 10, 5, 3, 1)  # positions a side
STEPS_PX = (8, 16, 32, 64, 100, 300)  # between neighbouring centres, in the 300x300 input
ASPECT_RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))  # each with its inverse, and 1 twice
IMAGE_SIZE_PX = 300
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # of cx, cy, w, h: what an offset of 1 means


def ssd300_anchors(
    scales: tuple[float, ...], device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(8732, 4): cx, cy, w, h as fractions of the image, in the order of the network's outputs.

    SSD paper (arXiv 1512.02325), section 2.2: per aspect ratio a, w = s sqrt(a) and h = s / sqrt(a); for a = 1 a
    second box of scale sqrt(s s'), s' the next map's scale.  `scales` are seven fractions, one per map and one after.
    In float64 they are the reference's to the last bit, which decides between anchors that overlap an object equally.
    """
    levels = []
    for k, (cells, step, ratios) in enumerate(zip(FEATURE_MAPS, STEPS_PX, ASPECT_RATIOS)):
        sizes = [(scales[k] * IMAGE_SIZE_PX,) * 2, (math.sqrt(scales[k] * scales[k + 1]) * IMAGE_SIZE_PX,) * 2]
        for ratio in (r for each in ratios for r in (each, 1 / each)):
            sizes.append((sizes[0][0] * math.sqrt(ratio), sizes[0][0] / math.sqrt(ratio)))
        centres = torch.linspace(step / 2, (cells - 0.5) * step, cells, dtype=torch.float64)
        cy, cx = torch.meshgrid(centres, centres, indexing="ij")
        centre = torch.stack((cx, cy), dim=-1)[:, :, None].expand(cells, cells, len(sizes), 2)
        size = torch.tensor(sizes, dtype=torch.float64).expand(cells, cells, len(sizes), 2)
        levels.append(torch.cat((centre, size), dim=-1).reshape(-1, 4))
    in_pixels = torch.cat(levels)
    return to_centres(to_corners(in_pixels) / IMAGE_SIZE_PX).to(device=device, dtype=dtype)


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
