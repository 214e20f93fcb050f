"""SSDLite: an SSD of depthwise separable convolutions (MobileNetV2, arXiv 1801.04381, section 6.2)."""

from __future__ import annotations

from torch import Tensor, nn

from .config import SSDLITE_EXTRA_LAYERS, ModelConfig
from .layers import given, scaled
from .mobilenet_v2 import FIRST_OF_STRIDE_16, FIRST_OF_STRIDE_32, ConvNormActivation, MobileNetV2
from .ssd import head_outputs


class SeparableConv2d(nn.Module):
    """3x3 for each channel alone, batch normalisation, min(max(x, 0), 6), and a 1x1 to all outputs."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.depthwise = ConvNormActivation(channels, channels, 3, groups=channels)
        self.pointwise = nn.Conv2d(channels, out, 1)

    @property
    def weight(self) -> Tensor:
        """The kernel of the outputs, (out, channels, 1, 1)."""
        return self.pointwise.weight

    @property
    def bias(self) -> Tensor | None:
        return self.pointwise.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class SSDLite(MobileNetV2):
    """Inputs and outputs as of `ssd.SSD`, over MobileNetV2.

    The first two maps are those inside the blocks that halve them, after their expansion, as SSDLite takes them.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        channels = self.out_channels
        maps = [*(self.block(name).inside for name in (FIRST_OF_STRIDE_16, FIRST_OF_STRIDE_32)), channels]
        self.extras = nn.ModuleDict()
        for layer in SSDLITE_EXTRA_LAYERS[config.image_size]:
            squeeze, out = scaled(layer.squeeze, config.width), scaled(layer.out, config.width)
            depthwise = nn.Conv2d(squeeze, squeeze, 3, layer.stride, layer.padding, groups=squeeze, bias=False)
            self.extras[layer.name] = nn.Sequential(
                ConvNormActivation(channels, squeeze, 1),
                nn.Sequential(depthwise, nn.BatchNorm2d(squeeze), nn.ReLU6(inplace=True)),
                ConvNormActivation(squeeze, out, 1),
            )
            channels = out
            maps.append(out)
        outputs, boxes = config.num_classes + 1, [level.boxes for level in config.feature_maps]
        self.class_heads = nn.ModuleList(SeparableConv2d(c, n * outputs) for c, n in zip(maps, boxes))
        self.box_heads = nn.ModuleList(SeparableConv2d(c, n * 4) for c, n in zip(maps, boxes))

    def feature_maps(self, *inputs: Tensor) -> list[Tensor]:
        """The maps that the heads read, as `config.feature_maps` lists them."""
        x = self.entry(*inputs)
        maps = []
        for name, layer in self.features.items():
            if name in (FIRST_OF_STRIDE_16, FIRST_OF_STRIDE_32):
                x, inside = self.block(name).expanded(x)
                maps.append(inside)
            else:
                x = layer(x)
        maps.append(x)
        for extra in self.extras.values():
            x = extra(x)
            maps.append(x)
        return maps

    def forward(
        self, image_or_luma: Tensor, chroma_or_cb: Tensor | None = None, cr: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        maps = self.feature_maps(*given(image_or_luma, chroma_or_cb, cr))
        return head_outputs(maps, self.class_heads, self.box_heads, self.config.num_classes + 1)
