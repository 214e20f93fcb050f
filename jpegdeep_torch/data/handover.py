"""How a worker hands a batch to the main process: in shared memory that goes back to the worker when it was used.

Memory made anew for each batch costs a file, its pages on both sides and a connection over which it is passed: about
2 ms a batch, beside 4 ms for reading 8 images.  So a worker keeps a few slots.  A slot is passed once; later its number
is enough.  The last byte of a slot says whether it is taken; the main process clears it when the last tensor on that
memory is gone, so a batch can be kept as long as anyone likes, and the worker takes another slot meanwhile.  Slots of
workers that have ended go when the next batch of any other worker comes.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
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

    def __init__(self, owner: _Slots, size: int):
        self.owner, self.key, self.was_passed = owner, (owner.process, next(owner.numbers)), False
        self.size = -(-size // _FLAG_BYTES) * _FLAG_BYTES  # whole values of any type
        # A loader started in inference mode has workers in it, whose threads, which send, are not: an inference tensor
        # could not be written to there.
        with torch.inference_mode(False):
            self.memory = torch.zeros(self.size + _FLAG_BYTES, dtype=torch.uint8).share_memory_()
        self._bytes = self.memory.numpy()
        self._used: Callable[[], np.ndarray | None] = lambda: None  # by the worker itself

    @property
    def is_free(self) -> bool:
        return self._used() is None and not self._bytes[-1]

    def mark_taken(self) -> None:
        """By the main process, which clears the mark."""
        self._bytes[-1] = 1

    def lend(self) -> np.ndarray:
        """The slot is not free while the array lives, or any tensor made of it."""
        lent = self._bytes[:-_FLAG_BYTES]
        self._used = weakref.ref(lent)
        return lent


class Lease:
    """A slot that a batch of this worker is made in.

    `array` is its memory, uint8.  Tensors made of it are not shared memory to PyTorch, which copies them when they are
    sent without the lease.
    """

    def __init__(self, slot: Slot):
        self.slot, self.array, self._sent = slot, slot.lend(), False

    def __reduce__(self) -> tuple:
        """For copies that do not go to the main process: memory of their own."""
        return torch.from_numpy, (self.array.copy(),)

    def send(self) -> tuple:
        """How a queue to the main process gets the memory."""
        if self._sent:  # the main process may be done with it already
            return self.__reduce__()
        self._sent = True
        slot = self.slot
        slot.mark_taken()
        if slot.was_passed:
            return _received_again, (slot.key,)
        slot.was_passed = True
        dropped, slot.owner.dropped = slot.owner.dropped, []
        return _received, (slot.key, slot.memory, dropped)


ForkingPickler.register(Lease, Lease.send)


class _Slots:
    """A worker's own."""

    def __init__(self) -> None:
        self.process, self.slots, self.numbers = os.getpid(), [], itertools.count()
        self.dropped: list[Key] = []  # slots that will not be used again, which the main process need not keep
        self.lock = threading.Lock()  # a dataset may read batches in several threads

    def take(self, size: int) -> Lease | None:
        """Of at least `size` bytes; None where too many are out."""
        with self.lock:
            slot = next((s for s in self.slots if s.is_free and s.size >= size), None)
            if slot is None:
                self.dropped += [s.key for s in self.slots if s.is_free]  # those that are too small
                self.slots = [s for s in self.slots if not s.is_free]
                if len(self.slots) >= _MOST_SLOTS:
                    return None
                slot = Slot(self, size)
                self.slots.append(slot)
            return Lease(slot)


_own_slots: _Slots | None = None
_own_lock = threading.Lock()
_known: dict[Key, np.ndarray] = {}  # in the main process: the slots that were passed, while their workers live


def batch_memory(size: int, dtype: torch.dtype) -> tuple[Tensor, Lease | None]:
    """Room for `size` values; in a worker shared, and the lease that goes to the main process with it."""
    global _own_slots
    if get_worker_info() is None:
        return torch.empty(size, dtype=dtype), None
    with _own_lock:
        if _own_slots is None or _own_slots.process != os.getpid():
            _own_slots = _Slots()
    lease = _own_slots.take(size * dtype.itemsize)
    if lease is None:
        return torch.empty(size, dtype=dtype).share_memory_(), None
    return torch.from_numpy(lease.array)[: size * dtype.itemsize].view(dtype), lease


def _received(key: Key, memory: Tensor, dropped: Sequence[Key]) -> Tensor:
    _known[key] = memory.numpy()
    for unused in dropped:
        _known.pop(unused, None)
    return _received_again(key)


def _received_again(key: Key) -> Tensor:
    """uint8; the slot is free again when the last tensor that shares this one's memory is gone."""
    gone = {process for process, _ in list(_known) if process != key[0] and not _is_alive(process)}
    for unused in [k for k in list(_known) if k[0] in gone]:
        _known.pop(unused, None)
    whole = _known[key]
    lent = whole[:-_FLAG_BYTES]  # an array of its own: PyTorch holds on to it as long as to the memory
    weakref.finalize(lent, _give_back, whole, os.getpid()).atexit = False
    return torch.from_numpy(lent)


def _give_back(whole: np.ndarray, process: int) -> None:
    if os.getpid() == process:  # a process forked from the main one has copies of its tensors, and drops them
        whole[-1] = 0


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
    """`tensors` for the way from a worker, where each piece of memory costs a connection: in one, if they lie so.

    `lease` says which memory they were made in; they may have been replaced since.
    """
    pieces = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    types = {tensor.dtype for tensor in tensors}
    if len(pieces) != 1 or len(types) != 1:
        return tuple(tensors)
    first = tensors[0]
    if lease is not None and pieces != {lease.array.ctypes.data}:
        lease = None
    if lease is None and len(tensors) == 1:
        return tuple(tensors)
    parts = [(t.shape, t.stride(), t.storage_offset()) for t in tensors]
    whole = first.as_strided((first.untyped_storage().nbytes() // first.element_size(),), (1,), 0)
    return _Passed(whole if lease is None else lease, first.dtype, parts)


def unpassed(sent: Any) -> tuple[Tensor, ...]:
    """What `passed` was given."""
    if not isinstance(sent, _Passed):
        return sent
    memory = torch.from_numpy(sent.memory.array) if isinstance(sent.memory, Lease) else sent.memory
    whole = memory.view(sent.dtype)
    return tuple(whole.as_strided(*part) for part in sent.parts)
