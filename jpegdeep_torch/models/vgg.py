"""VGG-16 on RGB pixels and on DCT coefficients: trunk and classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .config import VGGTrunk as VGGSpec
from .layers import KERAS_BN_EPSILON, ChromaDeconv, SameConv2d, given, max_pool_2x2, mean_over_positions, scaled
from .network import Network


def dense_to_convolution(values: Tensor, channels: int) -> Tensor:
    """What a detector's fc6 or fc7 keeps of a classifier's dense layer (SSD, arXiv 1512.02325, section 3).

    Every third tap of 7x7, that is, 0, 3 and 6, and evenly spaced channels: of 4096 every 4th.  Of a narrower network
    that is not always a whole number: of 120 channels, for 32.

    The reference cuts by `scipy.ndimage.zoom(kernel, (0.42857, 0.42857, 1, 1))`, a cubic spline read at the coordinates
    0, 3 and 6.  An interpolating spline passes through its samples, so it gives the same taps, to rounding.

    Args:
        values: fc1's weights (channels, inputs, 7, 7), fc2's (channels, channels, 1, 1), or the bias of either.
        channels: of fc6 and fc7.

    Returns:
        fc6's weights (channels, inputs, 3, 3), fc7's (channels, channels, 1, 1), or their bias.
    """
    channels = min(channels, len(values))
    kept = torch.arange(channels) * len(values) // channels
    values = values[kept]
    if values.ndim == 1:
        return values
    return values[:, :, ::3, ::3].contiguous() if values.shape[2:] == (7, 7) else values[:, kept]


class VGGTrunk(nn.Module):
    """Inputs as in `config.INPUT_KINDS` -> (feature map of stride 8, feature map of stride 16 after block 5).

    In a detector the second one has passed a 3x3 pool of stride 1; in a classifier a 2x2 pool, hence stride 32.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        assert isinstance(config.trunk, VGGSpec)
        self.spec = spec = config.trunk
        self.detector = config.task == "detector"
        # The reference's RGB detector pools with padding='same' (75 -> 38); all other networks round down.
        self.round_up = self.detector and not config.is_dct
        width = config.width
        self.deconv = ChromaDeconv() if spec.deconv else None
        channels = ChromaDeconv.channels if spec.deconv else 64 if config.is_dct else 3
        self.luma_norm = nn.BatchNorm2d(channels, eps=KERAS_BN_EPSILON) if spec.luma_norm else None
        self.chroma_norm = nn.BatchNorm2d(128, eps=KERAS_BN_EPSILON) if spec.chroma_norm else None
        self.stem = nn.ModuleDict()
        for name, out in (layer for layer in spec.stem if not isinstance(layer, str)):
            self.stem[name] = SameConv2d(channels, scaled(out, width), 3)
            channels = scaled(out, width)
        self.source_channels = channels
        channels += 128 if spec.chroma_norm else 0
        self.block5 = nn.ModuleDict()
        for name in spec.block5:
            self.block5[name] = SameConv2d(channels, scaled(512, width), 3)
            channels = scaled(512, width)
        self.out_channels = channels

    def forward(self, image_or_luma: Tensor, *chroma: Tensor) -> tuple[Tensor, Tensor]:
        x = image_or_luma
        if self.deconv is not None:
            x = self.deconv(x, *chroma)
        if self.luma_norm is not None:
            x = self.luma_norm(x)
        before = x
        for layer in self.spec.stem:
            before = x
            x = max_pool_2x2(x, self.round_up) if isinstance(layer, str) else F.relu(self.stem[layer[0]](x))
        source = x
        x = max_pool_2x2(before if self.spec.source_is_branch and self.detector else source, self.round_up)
        if self.chroma_norm is not None:
            x = torch.cat((x, self.chroma_norm(*chroma)), dim=1)
        for conv in self.block5.values():
            x = F.relu(conv(x))
        return source, F.max_pool2d(x, 3, stride=1, padding=1) if self.detector else F.max_pool2d(x, 2)


class VGGDetectorTrunk(nn.Module):
    """The trunk with fc6 and fc7 as dilated convolutions: -> feature maps of stride 8 and 16 (38x38, 19x19 at 300)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.base = VGGTrunk(config)
        width = scaled(1024, config.width)
        self.fc6 = SameConv2d(self.base.out_channels, width, 3, dilation=6)
        self.fc7 = nn.Conv2d(width, width, 1)
        self.out_channels = (self.base.source_channels, width)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        source, x = self.base(*inputs)
        return source, F.relu(self.fc7(F.relu(self.fc6(x))))


class VGGClassifier(Network):
    """Inputs as in `config.INPUT_KINDS`, of any size from 224 px -> class logits (N, classes), mean over positions."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.trunk = VGGTrunk(config)
        width = scaled(4096, config.width)
        self.fc1 = nn.Conv2d(self.trunk.out_channels, width, 7)  # a dense layer on 7x7, as a convolution
        self.fc2 = nn.Conv2d(width, width, 1)
        self.predictions = nn.Conv2d(width, config.num_classes, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image_or_luma: Tensor, chroma_or_cb: Tensor | None = None, cr: Tensor | None = None) -> Tensor:
        _, x = self.trunk(*given(image_or_luma, chroma_or_cb, cr))
        x = self.dropout(F.relu(self.fc1(x)))
        x = self.dropout(F.relu(self.fc2(x)))
        return mean_over_positions(self.predictions(x))
