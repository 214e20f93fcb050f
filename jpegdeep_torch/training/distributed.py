"""Several processes, one batch: what torchrun's processes do together.  Alone, all of it does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Joins the group that torchrun's environment describes, if any -> this process's device.

    NCCL between GPUs, gloo between CPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        yield torch.device(device)
        return
    local = torch.device(device)
    if local.type == "cuda":
        local = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if local.type == "cuda" else "gloo")
    try:
        yield local
    finally:
        dist.destroy_process_group()


def all_summed(value: Tensor) -> Tensor:
    """The sum over all processes; not differentiable."""
    if is_distributed():
        value = value.clone()
        dist.all_reduce(value)
    return value


def all_gathered(values: Tensor) -> tuple[Tensor, slice]:
    """(the processes' tensors (n,), one after another, the slice that is this one's own)."""
    if not is_distributed():
        return values, slice(0, len(values))
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts), slice(rank() * len(values), (rank() + 1) * len(values))


def gathered_objects(value: Any) -> list[Any]:
    """Every process's `value`, in the order of their ranks, in every process."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


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
        mean = (differentiable_all_reduce(wide.sum(dim=(0, 2, 3), dtype=torch.float64)) / count).float()
        centred = wide - mean.view(1, -1, 1, 1)
        squares = centred.square().sum(dim=(0, 2, 3), dtype=torch.float64)
        variance = (differentiable_all_reduce(squares) / count).float()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """Lets every BatchNorm2d of `model`, in place, take its statistics over all processes."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronizedBatchNorm2d  # the same parameters under the same names
    return model
