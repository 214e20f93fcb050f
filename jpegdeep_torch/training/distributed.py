"""Several processes, one batch: what torchrun's processes do together.  Alone, all of it does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FailedElsewhere, JpegDeepError


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
        value = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(value)
    return value


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


def raise_together(error: JpegDeepError | None) -> None:
    """Raises `error`; where only other processes have one, FailedElsewhere.  All must call it at the same time.

    Of an error that several processes have in the same words, the first of them raises it.
    """
    if not is_distributed():
        if error is not None:
            raise error
        return
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    if not all_summed(torch.tensor(int(error is not None), device=device)):
        return
    messages = gathered_objects(None if error is None else str(error))
    if error is not None and messages.index(str(error)) == rank():
        raise error
    raise FailedElsewhere("; ".join(f"rank {i}: {said}" for i, said in enumerate(messages) if said is not None))


@contextmanager
def agreed() -> Iterator[None]:
    """A block that every process ends well, or none: see `raise_together`.  In it, no process waits for another."""
    error = None
    try:
        yield
    except JpegDeepError as found:
        error = found
    raise_together(error)


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
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


class SharedDropout(nn.Dropout):
    """Dropout that draws for the images of all processes and takes its own, which lie as `Stream` deals them out.

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
