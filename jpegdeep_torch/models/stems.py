"""Stems on DCT coefficients: what stands in for an RGB network's layers up to one of its feature maps.

Their rows say how large they are; a network says which feature map they have to give (`DCTStem`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .layers import KERAS_BN_EPSILON, scaled

STEM_STRIDES = (4, 8, 16)  # pixels per position of the feature map, each way


@dataclass(frozen=True)
class Stem:
    """How large a stem is.

    channels: between its blocks.
    blocks: inverted residuals after the entry.
    chroma: channels that Cb and Cr, 128 of them, are brought to on the luma's grid.
    expansion: of an inverted residual: its inner channels over its outer ones.
    """

    channels: int
    blocks: int
    chroma: int = 32
    expansion: int = 4


STEMS = {
    "small": Stem(64, 2),
    "medium": Stem(96, 3, chroma=64),
    "large": Stem(128, 5, chroma=64),
}


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 on each alone, 1x1 back, added to the input where the stride is 1 (arXiv 1801.04381).

    (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, channels: int, expansion: int, stride: int = 1):
        super().__init__()
        inner = channels * expansion
        self.stride = stride
        self.expand = nn.Conv2d(channels, inner, 1, bias=False)
        self.expand_bn = nn.BatchNorm2d(inner)
        self.spread = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False)
        self.spread_bn = nn.BatchNorm2d(inner)
        self.project = nn.Conv2d(inner, channels, 1, bias=False)
        self.project_bn = nn.BatchNorm2d(channels)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """Whose weights of zero make a block of stride 1 add nothing."""
        return self.project_bn

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.expand_bn(self.expand(x)))
        y = F.relu(self.spread_bn(self.spread(y)))
        y = self.project_bn(self.project(y))
        return x + y if self.stride == 1 else y


class DCTStem(nn.Module):
    """Luma (N, 64, H, W), chroma (N, 128, H/2, W/2) -> feature map (N, out_channels, H * 8 / stride, W * 8 / stride).

    Coefficients as `read_dct` gives them, floating point.  Where H or W is odd, the chroma has half a position more,
    and that is cut off.

    Args:
        stem: a key of STEMS.
        out_channels: of the feature map.
        stride: of the feature map, in pixels: 4, 8 or 16.
        chroma: False takes luma alone.
        rectified: whether the feature map has passed a ReLU.
        width: multiplies the channels.
    """

    def __init__(
        self,
        stem: str,
        out_channels: int,
        *,
        stride: int = 8,
        chroma: bool = True,
        rectified: bool = False,
        width: float = 1.0,
    ):
        super().__init__()
        if stem not in STEMS:
            raise ModelError(f"unknown stem {stem!r}: expected one of {', '.join(STEMS)}")
        if stride not in STEM_STRIDES:
            raise ModelError(f"a stem of stride {stride}: expected one of {', '.join(map(str, STEM_STRIDES))}")
        spec = STEMS[stem]
        channels, enlarged = scaled(spec.channels, width), scaled(spec.chroma, width) if chroma else 0
        self.rectified = rectified
        self.luma_norm = nn.BatchNorm2d(64, eps=KERAS_BN_EPSILON)
        self.chroma_norm = nn.BatchNorm2d(128, eps=KERAS_BN_EPSILON) if chroma else None
        self.enlarge = nn.ConvTranspose2d(128, enlarged, 2, stride=2) if chroma else None
        self.entry = nn.Conv2d(64 + enlarged, channels, 3, padding=1, bias=False)
        self.entry_bn = nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleList(InvertedResidual(channels, spec.expansion) for _ in range(spec.blocks))
        if stride == 16:
            self.blocks.insert(1, InvertedResidual(channels, spec.expansion, stride=2))
        self.exit: nn.Module
        if stride == 4:
            self.exit = nn.ConvTranspose2d(channels, out_channels, 2, stride=2)
        else:
            self.exit = nn.Conv2d(channels, out_channels, 1)

    def forward(self, luma: Tensor, chroma: Tensor | None = None) -> Tensor:
        x = self.luma_norm(luma)
        if self.enlarge is not None and self.chroma_norm is not None and chroma is not None:
            c = self.enlarge(self.chroma_norm(chroma))
            x = torch.cat((x, c[:, :, : x.shape[2], : x.shape[3]]), dim=1)
        x = self.entry_bn(self.entry(x))
        for block in self.blocks:
            x = block(x)
        x = self.exit(x)
        return F.relu(x) if self.rectified else x
