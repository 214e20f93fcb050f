"""ResNet-50 on RGB pixels and on DCT coefficients: bottlenecks, trunk and classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig, Stage
from .config import ResNetTrunk as ResNetSpec
from .layers import RESNET_BN_EPSILON, ChromaDeconv, SameConv2d, given, mean_over_positions, scaled
from .network import Network


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=RESNET_BN_EPSILON)


class Bottleneck(nn.Module):
    """1x1, kxk, 1x1 with a shortcut (arXiv 1512.03385); the stride sits in the first 1x1, as in Keras's ResNet, or
    `in_middle`, in the kxk, as in torchvision's."""

    def __init__(
        self, channels: int, width: int, out: int, kernel: int, stride: int, project: bool, in_middle: bool = False
    ):
        super().__init__()
        self.branch2a = nn.Conv2d(channels, width, 1, stride=1 if in_middle else stride)
        self.branch2a_bn = _norm(width)
        if in_middle and stride > 1:
            self.branch2b = nn.Conv2d(width, width, kernel, stride=stride, padding=kernel // 2)
        else:
            self.branch2b = SameConv2d(width, width, kernel)
        self.branch2b_bn = _norm(width)
        self.branch2c = nn.Conv2d(width, out, 1)
        self.branch2c_bn = _norm(out)
        self.branch1 = nn.Conv2d(channels, out, 1, stride=stride) if project else None
        self.branch1_bn = _norm(out) if project else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.branch2a_bn(self.branch2a(x)))
        y = F.relu(self.branch2b_bn(self.branch2b(y)))
        y = self.branch2c_bn(self.branch2c(y))
        if self.branch1 is not None and self.branch1_bn is not None:
            x = self.branch1_bn(self.branch1(x))
        return F.relu(y + x)


def _stages(
    stages: tuple[Stage, ...], channels: int, width: float, in_middle: bool = False
) -> tuple[nn.ModuleDict, int]:
    """({'2a': Bottleneck, ...} in order, output channels)."""
    blocks = nn.ModuleDict()
    for stage in stages:
        out = scaled(stage.out, width)
        kernels = stage.kernels or (3,) * len(stage.blocks)
        for i, (letter, kernel) in enumerate(zip(stage.blocks, kernels)):
            first = i == 0 and not stage.identity
            blocks[f"{stage.number}{letter}{stage.suffix}"] = Bottleneck(
                channels, scaled(stage.width, width), out, kernel, stage.stride if first else 1, first, in_middle
            )
            channels = out
    return blocks, channels


class ResNetTrunk(nn.Module):
    """Inputs as in `config.INPUT_KINDS` -> feature maps of stride 8 and of stride 16 (a classifier's: 32)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        assert isinstance(config.trunk, ResNetSpec)
        spec, width = config.trunk, config.width
        self.deconv = ChromaDeconv() if spec.deconv else None
        channels = ChromaDeconv.channels if spec.deconv else 64
        self.luma_norm = _norm(channels) if spec.luma_norm else None
        self.conv1: nn.Conv2d | None = None
        if spec.stem:
            channels = scaled(64, width)
            self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3)
            self.bn_conv1 = _norm(channels)
        else:
            self.conv1 = None
        self.early, source = _stages(spec.early, channels, width, spec.stride_in_middle)
        self.luma, joint = _stages(spec.luma, source, width)
        self.chroma_norm = _norm(128) if spec.chroma else None
        self.chroma, chroma_out = _stages(spec.chroma, 128, width)
        late = spec.late
        if config.task == "detector":  # the reference keeps 19x19 through stage 5
            late = (*late[:-1], Stage(late[-1].number, late[-1].blocks, late[-1].width, late[-1].out))
        joint += chroma_out if spec.chroma else 0
        self.late, top = _stages(late, joint, width, spec.stride_in_middle)
        self.out_channels = (source, top)

    def forward(self, image_or_luma: Tensor, *chroma: Tensor) -> tuple[Tensor, Tensor]:
        x = image_or_luma
        if self.deconv is not None:
            x = self.deconv(x, *chroma)
        if self.luma_norm is not None:
            x = self.luma_norm(x)
        if self.conv1 is not None:
            # Keras pads with zeros, PyTorch's pool with minus infinity: the same after a ReLU.
            x = F.max_pool2d(F.relu(self.bn_conv1(self.conv1(x))), 3, stride=2, padding=1)
        for block in self.early.values():
            x = block(x)
        source = x
        for block in self.luma.values():
            x = block(x)
        if self.chroma_norm is not None:
            c = self.chroma_norm(*chroma)
            for block in self.chroma.values():
                c = block(c)
            x = torch.cat((x, c), dim=1)
        for block in self.late.values():
            x = block(x)
        return source, x


class ResNetClassifier(Network):
    """Inputs as in `config.INPUT_KINDS`, of any size -> class logits (N, classes), from the mean over positions."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.trunk = ResNetTrunk(config)
        self.fc1000 = nn.Linear(self.trunk.out_channels[1], config.num_classes)

    def forward(self, image_or_luma: Tensor, chroma_or_cb: Tensor | None = None, cr: Tensor | None = None) -> Tensor:
        return self.fc1000(mean_over_positions(self.trunk(*given(image_or_luma, chroma_or_cb, cr))[1]))
