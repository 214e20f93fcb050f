"""Several processes, one batch: what torchrun's processes do together.  Alone, all of it does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

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


def in_any_process(flag: bool) -> bool:
    """Whether `flag` holds in any process; all must call it at the same time."""
    if not is_distributed():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(all_summed(torch.tensor(int(flag), device=device)))


def raise_together(error: JpegDeepError | None) -> None:
    """Raises `error`; where only other processes have one, FailedElsewhere.  All must call it at the same time.

    Of an error that several processes have in the same words, the first of them raises it.
    """
    if not in_any_process(error is not None):
        return
    messages = gathered_objects(None if error is None else str(error))
    if error is not None and messages.index(str(error)) == rank():
        raise error
    raise FailedElsewhere("; ".join(f"rank {i}: {said}" for i, said in enumerate(messages) if said is not None))


@contextmanager
def collective_errors() -> Iterator[None]:
    """A block that every process ends well, or none: see `raise_together`.  In it, no process waits for another."""
    error = None
    try:
        yield
    except JpegDeepError as found:
        error = found
    raise_together(error)
