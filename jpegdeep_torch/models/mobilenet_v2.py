"""MobileNetV2 (arXiv 1801.04381): inverted residuals, trunk and classifier.

The tensors have the names of torchvision's `mobilenet_v2`, whose weights fit as they are; those of a stem come on top.
"""

from __future__ import annotations

from torch import Tensor, nn

from .config import MobileNetTrunk as MobileNetSpec
from .config import ModelConfig
from .layers import given, mean_over_positions, scaled
from .network import Network
from .stems import DCTStem

FIRST_OF_STRIDE_16, FIRST_OF_STRIDE_32 = "7", "14"  # the blocks that halve the maps of stride 8 and of stride 16


class ConvNormActivation(nn.Sequential):
    """A convolution without bias that keeps the size but for its stride, batch normalisation, min(max(x, 0), 6)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """1x1 up to `expand` times the channels, 3x3 for each channel alone, 1x1 down; with a shortcut where it fits."""

    def __init__(self, channels: int, out: int, stride: int, expand: int):
        super().__init__()
        inside = channels * expand
        self.has_shortcut = stride == 1 and channels == out
        expansion = [ConvNormActivation(channels, inside, 1)] if expand > 1 else []
        self.conv = nn.Sequential(
            *expansion,
            ConvNormActivation(inside, inside, 3, stride, groups=inside),
            nn.Conv2d(inside, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.inside = inside  # channels

    def expanded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(what `forward` gives, the map inside it in front of the 3x3), for a block that expands."""
        inside = y = self.conv[0](x)
        for layer in self.conv[1:]:
            y = layer(y)
        return (x + y if self.has_shortcut else y), inside

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(Network):
    """The trunk: MobileNetV2's layers by torchvision's names, '0' to '17', and, in a classifier, '18'.

    In a DCT network, `stem` stands in place of the layers '0' to '6', and gives what the last of them gives.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        assert isinstance(config.trunk, MobileNetSpec)
        spec, width = config.trunk, config.width
        channels = scaled(spec.first, width)
        layers: dict[str, nn.Module] = {"0": ConvNormActivation(3, channels, 3, stride=2)}
        entry = channels
        for stage in spec.blocks:
            out = scaled(stage.out, width)
            for i in range(stage.repeats):
                if str(len(layers)) == FIRST_OF_STRIDE_16:
                    entry = channels
                layers[str(len(layers))] = InvertedResidual(channels, out, 1 if i else stage.stride, stage.expand)
                channels = out
        self.out_channels = channels
        if config.task == "classifier":
            self.out_channels = scaled(spec.last, width)
            layers[str(len(layers))] = ConvNormActivation(channels, self.out_channels, 1)
        self.stem: DCTStem | None = None
        if spec.stem:
            self.stem = DCTStem(spec.stem, entry, chroma=config.inputs == "dct", width=width)
            layers = {name: layer for name, layer in layers.items() if int(name) >= int(FIRST_OF_STRIDE_16)}
        self.features = nn.ModuleDict(layers)

    def block(self, name: str) -> InvertedResidual:
        """The block `name` of `features`."""
        block = self.features[name]
        assert isinstance(block, InvertedResidual)
        return block

    def entry(self, *inputs: Tensor) -> Tensor:
        """What the first of `features` takes: the image, or the stem's map."""
        return inputs[0] if self.stem is None else self.stem(*inputs)


class MobileNetV2Classifier(MobileNetV2):
    """Inputs as in `config.INPUT_KINDS`, of any size -> class logits (N, classes), from the mean over positions."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.out_channels, config.num_classes))

    def forward(self, image_or_luma: Tensor, chroma_or_cb: Tensor | None = None, cr: Tensor | None = None) -> Tensor:
        x = self.entry(*given(image_or_luma, chroma_or_cb, cr))
        for layer in self.features.values():
            x = layer(x)
        return self.classifier(mean_over_positions(x))
