"""Layers that give several processes what one process would have with a batch as large."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.distributed import all_summed, is_distributed, rank, world_size


class _Sum(torch.autograd.Function):
    """What each process adds to the sum, it adds to every process's loss: the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return all_summed(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_summed(gradient)


def differentiable_sum(value: Tensor) -> Tensor:
    """The sum over all processes; its gradient counts for the losses of all of them."""
    return _Sum.apply(value)


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance are those of all processes' batches together.

    PyTorch's SyncBatchNorm runs on GPUs alone.  Every process must have the same number of positions.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not is_distributed():
            return super().forward(x)
        count = x.numel() // x.shape[1] * world_size()
        wide = x.float()
        # Sums in float64: coefficients reach into the thousands, and there are hundreds of thousands of them.
        mean = (differentiable_sum(wide.sum(dim=(0, 2, 3), dtype=torch.float64)) / count).float()
        centred = wide - mean.view(1, -1, 1, 1)
        squares = centred.square().sum(dim=(0, 2, 3), dtype=torch.float64)
        variance = (differentiable_sum(squares) / count).float()
        assert self.running_mean is not None and self.running_var is not None  # as of all our networks' layers
        assert self.num_batches_tracked is not None and self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


class SharedDropout(nn.Dropout):
    """Dropout that draws for the images of all processes and takes its own, as `TrainingSampler` deals them out.

    From the same seed everywhere, an image loses what it would lose in one process with a batch as large.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not is_distributed():
            return super().forward(x)
        everyone = x.detach().new_ones(1).expand(len(x) * world_size(), *x.shape[1:])
        return x * F.dropout(everyone.contiguous(), self.p)[rank() :: world_size()]


def share_dropout(model: nn.Module) -> nn.Module:
    """Lets every Dropout of `model`, in place, draw as one process would for the batches of all."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = SharedDropout
    return model


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """Lets every BatchNorm2d of `model`, in place, take its statistics over all processes."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronizedBatchNorm2d  # the same parameters under the same names
    return model
