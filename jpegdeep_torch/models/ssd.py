"""SSD (arXiv 1512.02325) over any trunk: extra layers and heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import EXTRA_LAYERS, ModelConfig
from .layers import L2Normalization, SameConv2d, TapwiseConv2d, given, scaled
from .network import Network
from .resnet import ResNetTrunk
from .vgg import VGGDetectorTrunk


class SSD(Network):
    """Inputs as in `config.INPUT_KINDS`, floating point -> (class logits (N, A, C + 1), box offsets (N, A, 4)).

    A = 8732 anchors at 300 px, 24564 at 512.  Class 0 is the background; the anchors' order is that of
    `detection.anchors.anchor_boxes`: feature map, row, column, box.  C = `config.num_classes`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.trunk = (VGGDetectorTrunk if config.family == "vgg16" else ResNetTrunk)(config)
        source, channels = self.trunk.out_channels
        self.source_norm = L2Normalization(source)
        maps = [source, channels]
        self.extras = nn.ModuleDict()
        for layer in EXTRA_LAYERS[config.image_size]:
            squeeze, out = scaled(layer.squeeze, config.width), scaled(layer.out, config.width)
            self.extras[f"{layer.name}_1"] = nn.Conv2d(channels, squeeze, 1)
            self.extras[f"{layer.name}_2"] = nn.Conv2d(
                squeeze, out, layer.kernel, stride=layer.stride, padding=layer.padding
            )
            channels = out
            maps.append(out)
        outputs, boxes = config.num_classes + 1, [level.boxes for level in config.feature_maps]
        self.class_heads = nn.ModuleList(SameConv2d(c, n * outputs, 3) for c, n in zip(maps, boxes))
        self.box_heads = nn.ModuleList(
            TapwiseConv2d(c, n * 4) if c > 1024 else SameConv2d(c, n * 4, 3) for c, n in zip(maps, boxes)
        )

    def feature_maps(self, *inputs: Tensor) -> list[Tensor]:
        """The maps that the heads read, as `config.feature_maps` lists them."""
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
        return head_outputs(maps, self.class_heads, self.box_heads, self.config.num_classes + 1)


def head_outputs(
    maps: Sequence[Tensor], class_heads: nn.ModuleList, box_heads: nn.ModuleList, classes: int
) -> tuple[Tensor, Tensor]:
    """(class_logits (N, A, classes), box_offsets (N, A, 4)) of the feature maps, each by its two heads."""
    logits = [rows(head(x), classes) for head, x in zip(class_heads, maps)]
    offsets = [rows(head(x), 4) for head, x in zip(box_heads, maps)]
    return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


def rows(x: Tensor, size: int) -> Tensor:
    """(N, boxes * size, H, W) -> (N, H * W * boxes, size); free of copies where x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, size)
