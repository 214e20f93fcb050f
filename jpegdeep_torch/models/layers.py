"""Layers that Keras has and PyTorch has not, in forms that torch.export and Torch-TensorRT convert whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERAS_BN_EPSILON = 1e-3  # Keras's default, not PyTorch's 1e-5
RESNET_BN_EPSILON = 1e-5


class L2Normalization(nn.Module):
    """x / sqrt(max(sum over channels of x^2, 1e-12)) * gamma (ParseNet, arXiv 1506.04579), always in float32.

    (N, C, H, W) in and out, same dtype.  512 squares of half-precision activations overflow 65504: hence float32.
    """

    def __init__(self, channels: int, gamma: float = 20.0):  # 20: the scale that SSD starts from
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), gamma))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().sum(dim=1, keepdim=True).clamp(min=1e-12))
        return (wide * scale * self.weight.float().view(1, -1, 1, 1)).to(x.dtype)


def max_pool_2x2(x: Tensor, round_up: bool) -> Tensor:
    """2x2 max-pool of non-negative activations; with `round_up`, odd sides round up as Keras's padding='same' does.

    Keras pads right and below with minus infinity.  After a ReLU nothing is below 0, so a zero gives the same maximum;
    pooling with ceil_mode would leave PyTorch in the middle of a TensorRT engine.
    """
    if round_up:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)) if x.shape[2] % 2 or x.shape[3] % 2 else x
    return F.max_pool2d(x, 2)


class SameConv2d(nn.Conv2d):
    """A convolution of stride 1 with Keras's padding='same': even kernels get the extra zero right and below."""

    bias: nn.Parameter  # there always is one

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dilation: int = 1):
        super().__init__(in_channels, out_channels, kernel, padding=(kernel - 1) // 2 * dilation, dilation=dilation)
        self.extra = (kernel - 1) % 2

    def forward(self, x: Tensor) -> Tensor:
        if self.extra:
            # The zero channels (0, 0) change nothing, but keep Torch-TensorRT from fusing pad and convolution: its
            # re-tracing after that pass pins float32 networks on the CPU, as its dry run has them, to batches below 16.
            x = F.pad(x, (0, self.extra, 0, self.extra, 0, 0))
        return super().forward(x)


class TapwiseConv2d(SameConv2d):
    """A 3x3 convolution of many channels, summed tap by tap: one product over the channels, then nine shifted sums.

    oneDNN adds all 9 * 2048 products of such a convolution in one running sum.  Where a ResNet's box head comes to some
    400, that is off by more than 1e-3, the bar that a port is held to; this form is off by a tenth of it, and as fast.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2:]
        taps = self.weight.permute(2, 3, 0, 1).reshape(-1, self.in_channels, 1, 1)
        products = F.conv2d(F.pad(x, (1, 1, 1, 1)), taps).split(self.out_channels, dim=1)
        y = self.bias.view(1, -1, 1, 1)
        for k, product in enumerate(products):
            y = y + product[:, :, k // 3 : k // 3 + rows, k % 3 : k % 3 + columns]
        return y


class ChromaDeconv(nn.Module):
    """Joins luma (N, 64, H, W) with Cb and Cr (N, 64, H/2, W/2), each enlarged by its own transposed convolution."""

    channels = 192

    def __init__(self) -> None:
        super().__init__()
        self.deconv_cb = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.deconv_cr = nn.ConvTranspose2d(64, 64, 2, stride=2)

    def forward(self, luma: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
        return torch.cat((luma, self.deconv_cb(cb), self.deconv_cr(cr)), dim=1)


def given(*inputs: Tensor | None) -> tuple[Tensor, ...]:
    """The inputs that are there.

    Networks name their inputs instead of taking `*inputs`, so that torch.export counts them one by one: a flat tuple of
    dynamic shapes then fits, which Torch-TensorRT's tools assume.
    """
    return tuple(x for x in inputs if x is not None)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, as a multiple of 8 (what vector units want), at least 8."""
    return channels if width == 1.0 else max(8, round(channels * width / 8) * 8)


def mean_over_positions(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C)."""
    return x.mean(dim=(2, 3))
