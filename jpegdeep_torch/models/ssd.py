"""SSD300 (arXiv 1512.02325) over any trunk: extra layers and heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .layers import L2Normalization, SameConv2d, TapwiseConv2d, given, scaled
from .network import Network
from .resnet import ResNetTrunk
from .vgg import VGGDetectorTrunk

BOXES_PER_CELL = (4, 6, 6, 6, 4, 4)  # anchors at each position of the six feature maps
_EXTRAS = (  # (name, squeeze channels, output channels, stride and padding of the 3x3)
    ("conv6", 256, 512, 2, 1),
    ("conv7", 128, 256, 2, 1),
    ("conv8", 128, 256, 1, 0),
    ("conv9", 128, 256, 1, 0),
)


class SSD300(Network):
    """Inputs as in `config.INPUT_KINDS`, floating point -> (class logits (N, 8732, C + 1), box offsets (N, 8732, 4)).

    Class 0 is the background; the anchors' order is that of `detection.anchors.ssd300_anchors`: feature map, row,
    column, box.  C = `config.num_classes`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.trunk = (VGGDetectorTrunk if config.family == "vgg16" else ResNetTrunk)(config)
        source, channels = self.trunk.out_channels
        self.source_norm = L2Normalization(source)
        maps = [source, channels]
        self.extras = nn.ModuleDict()
        for name, squeeze, out, stride, padding in _EXTRAS:
            squeeze, out = scaled(squeeze, config.width), scaled(out, config.width)
            self.extras[f"{name}_1"] = nn.Conv2d(channels, squeeze, 1)
            self.extras[f"{name}_2"] = nn.Conv2d(squeeze, out, 3, stride=stride, padding=padding)
            channels = out
            maps.append(out)
        outputs = config.num_classes + 1
        self.class_heads = nn.ModuleList(SameConv2d(c, n * outputs, 3) for c, n in zip(maps, BOXES_PER_CELL))
        self.box_heads = nn.ModuleList(
            TapwiseConv2d(c, n * 4) if c > 1024 else SameConv2d(c, n * 4, 3) for c, n in zip(maps, BOXES_PER_CELL)
        )

    def feature_maps(self, *inputs: Tensor) -> list[Tensor]:
        """The six feature maps that the heads read: at 300 px of 38, 19, 10, 5, 3 and 1 positions a side."""
        source, x = self.trunk(*inputs)
        maps = [self.source_norm(source), x]
        for i, conv in enumerate(self.extras.values()):
            x = F.relu(conv(x))
            if i % 2:
                maps.append(x)
        return maps

    def forward(
        self, image_or_luma: Tensor, chroma_or_cb: Tensor | None = None, cr: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        maps = self.feature_maps(*given(image_or_luma, chroma_or_cb, cr))
        logits = [rows(head(x), self.config.num_classes + 1) for head, x in zip(self.class_heads, maps)]
        offsets = [rows(head(x), 4) for head, x in zip(self.box_heads, maps)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


def rows(x: Tensor, size: int) -> Tensor:
    """(N, boxes * size, H, W) -> (N, H * W * boxes, size); free of copies where x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, size)
