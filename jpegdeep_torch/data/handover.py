"""How a worker hands a batch to the main process: in shared memory that goes back to the worker when it was used.

Memory made anew for each batch costs a file, its pages on both sides and a connection over which it is passed: about
2 ms a batch, beside 4 ms for reading 8 images.  So a worker keeps a few slots.  A slot is passed once; later its number
is enough.  The last byte of a slot says whether it is taken; the main process clears it when the last tensor on that
memory is gone, so a batch can be kept as long as anyone likes, and the worker takes another slot meanwhile.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_MOST_SLOTS = 16  # of a worker: what more batches want at once is memory of their own, which is not kept
_FLAG_BYTES = 64  # a cache line of its own

Key = tuple[int, int]  # (the worker's process, its slot)
Parts = list[tuple[torch.Size, tuple[int, ...], int]]


class Slot:
    """Shared memory of one worker, for one batch at a time."""

    def __init__(self, key: Key, size: int):
        self.key, self.was_passed = key, False
        self.size = -(-size // _FLAG_BYTES) * _FLAG_BYTES  # whole values of any type
        self.memory = torch.empty(self.size + _FLAG_BYTES, dtype=torch.uint8).share_memory_()

    @property
    def is_free(self) -> bool:
        return not self.memory[-1]

    @is_free.setter
    def is_free(self, free: bool) -> None:
        self.memory[-1] = not free


class Lease:
    """A slot that a batch of this worker is made in, until it is sent or forgotten."""

    def __init__(self, slot: Slot):
        slot.is_free = False
        self.slot, self.sent = slot, False

    def __del__(self) -> None:
        if not self.sent:
            self.slot.is_free = True

    def __reduce__(self) -> tuple:
        """For copies that do not go to the main process: memory of their own."""
        return _own, (self.slot.memory[: self.slot.size].numpy().copy(),)


def _own(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def _sent(lease: Lease) -> tuple:
    """What the queue to the main process makes of a lease."""
    slot, lease.sent = lease.slot, True
    if slot.was_passed:
        return _received_again, (slot.key,)
    slot.was_passed = True
    return _received, (slot.key, slot.memory)


ForkingPickler.register(Lease, _sent)


class _Slots:
    """A worker's own."""

    def __init__(self) -> None:
        self.process, self.slots, self.numbers = os.getpid(), [], itertools.count()

    def take(self, size: int) -> Lease | None:
        """Of at least `size` bytes; None where too many are out."""
        slot = next((s for s in self.slots if s.is_free and s.size >= size), None)
        if slot is None:
            self.slots = [s for s in self.slots if not s.is_free]  # those that are too small
            if len(self.slots) >= _MOST_SLOTS:
                return None
            slot = Slot((self.process, next(self.numbers)), size)
            self.slots.append(slot)
        return Lease(slot)


_own_slots: _Slots | None = None
_known: dict[Key, np.ndarray] = {}  # in the main process: the slots that were passed
_lock = threading.Lock()  # batches may be received in several threads


def batch_memory(size: int, dtype: torch.dtype) -> tuple[Tensor, Lease | None]:
    """Room for `size` values; in a worker shared, and the lease that goes to the main process with it."""
    global _own_slots
    if get_worker_info() is None:
        return torch.empty(size, dtype=dtype), None
    if _own_slots is None or _own_slots.process != os.getpid():
        _own_slots = _Slots()
    lease = _own_slots.take(size * dtype.itemsize)
    if lease is None:
        return torch.empty(size, dtype=dtype).share_memory_(), None
    return lease.slot.memory[: size * dtype.itemsize].view(dtype), lease


def _received(key: Key, memory: Tensor) -> Tensor:
    with _lock:
        for other in [k for k in _known if k[0] != key[0] and not _is_alive(k[0])]:
            del _known[other]
        _known[key] = memory.numpy()
    return _received_again(key)


def _received_again(key: Key) -> Tensor:
    """uint8; the slot is free again when the last tensor that shares this one's memory is gone."""
    with _lock:
        whole = _known[key]
    lent = whole[:-_FLAG_BYTES]  # an array of its own: PyTorch holds on to it as long as to the memory
    weakref.finalize(lent, whole.__setitem__, -1, 0).atexit = False
    return torch.from_numpy(lent)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@dataclass
class _Passed:
    """Tensors on their way: one piece of memory, and where each lies in it."""

    memory: Lease | Tensor
    dtype: torch.dtype
    parts: Parts


def passed(tensors: Sequence[Tensor], lease: Lease | None) -> Any:
    """`tensors` for the way from a worker, where each piece of memory costs a connection: in one, if they lie so."""
    pieces = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    if not tensors or len(pieces) > 1 or (lease is None and len(tensors) == 1):
        return tuple(tensors)
    first = tensors[0]
    parts = [(t.shape, t.stride(), t.storage_offset()) for t in tensors]
    whole = first.as_strided((first.untyped_storage().nbytes() // first.element_size(),), (1,), 0)
    return _Passed(whole if lease is None else lease, first.dtype, parts)


def unpassed(sent: Any) -> tuple[Tensor, ...]:
    """What `passed` was given."""
    if not isinstance(sent, _Passed):
        return sent
    whole = sent.memory.view(sent.dtype)
    return tuple(whole.as_strided(*part) for part in sent.parts)
