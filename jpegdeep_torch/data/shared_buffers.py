"""Shared memory buffers in which a loader's worker processes pass batches to the main process.

New shared memory for each batch costs a file, its pages in both processes and a connection to pass it over: about 2 ms
per batch, where reading 8 images takes 4 ms.  So each worker keeps a pool of buffers and uses them again:

1. `batch_memory`, in the worker, takes a free buffer.  The worker reads images into it.
2. `pack` describes the batch's tensors by their places in the buffer.  The buffer itself goes to the main process only
   once; later its key is enough.  The worker sets the buffer's last byte: in use.
3. `unpack`, in the main process, makes tensors on the buffer.  When the last of them is gone, that byte is cleared, and
   the worker may use the buffer again.  So a batch can be kept as long as anyone likes.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_MOST_BUFFERS = 16  # in a worker's pool; batches beyond get memory that is used once
_FLAG_BYTES = 64  # a cache line of its own for the byte that says 'in use'

Key = tuple[int, int]  # (the worker's process id, number of the buffer in it)


class _Buffer:
    """Shared memory of this worker, for one batch at a time."""

    _numbers = itertools.count()

    def __init__(self, size: int):
        self.key: Key = os.getpid(), next(self._numbers)
        self.size = -(-size // _FLAG_BYTES) * _FLAG_BYTES  # whole values of any dtype
        # A worker of a loader that was started in inference mode is in that mode, but its thread that sends is not: it
        # could not write to an inference tensor.
        with torch.inference_mode(False):
            self.memory = torch.zeros(self.size + _FLAG_BYTES, dtype=torch.uint8).share_memory_()
        self.bytes = self.memory.numpy()
        self.main_has_it = False
        self.is_sent = False  # with the batch that it was taken for
        self._content: Callable[[], np.ndarray | None] = lambda: None

    @property
    def is_free(self) -> bool:
        """Whether neither this worker nor the main process has a tensor on it."""
        return self._content() is None and not self.bytes[-1]

    def take(self) -> Tensor:
        """The whole buffer but its flag, uint8; the buffer is not free while any tensor on this memory lives."""
        content = self.bytes[:-_FLAG_BYTES]  # an array of its own: PyTorch keeps it as long as the tensor's memory
        self._content, self.is_sent = weakref.ref(content), False
        return torch.from_numpy(content)


# In a worker.  The lock is for data sets that read in threads, and for the thread that sends.
_pool: list[_Buffer] = []
_discarded: list[Key] = []  # which the main process has not been told of
_lock = threading.Lock()

_received: dict[Key, np.ndarray] = {}  # in the main process: the memory of all buffers that it has seen


def batch_memory(size: int, dtype: torch.dtype) -> Tensor:
    """(size,) uninitialised, for one batch; in a worker it is shared with the main process, so that `pack` need not
    copy it."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=dtype)
    wanted = size * dtype.itemsize
    with _lock:
        buffer = next((b for b in _pool if b.is_free and b.size >= wanted), None)
        if buffer is None:
            too_small = [b for b in _pool if b.is_free]
            _discarded.extend(b.key for b in too_small)
            _pool[:] = [b for b in _pool if b not in too_small]
            if len(_pool) >= _MOST_BUFFERS:
                return torch.empty(size, dtype=dtype).share_memory_()
            buffer = _Buffer(wanted)
            _pool.append(buffer)
        return buffer.take()[:wanted].view(dtype)


@dataclass
class _Packed:
    """Tensors of one dtype in one piece of memory.  A copy or a plain pickle of it has memory of its own."""

    memory: Tensor  # all of it, (values,)
    places: list[tuple[torch.Size, tuple[int, ...], int]]  # shape, strides and offset of each tensor


def pack(tensors: Sequence[Tensor]) -> _Packed | tuple[Tensor, ...]:
    """What to pickle in place of `tensors`, whose memory is then passed to another process once, not once for each.

    That needs them in one piece of memory, as `batch_memory` gives it; others are given back as they are.
    """
    if len({t.untyped_storage().data_ptr() for t in tensors}) != 1 or len({t.dtype for t in tensors}) != 1:
        return tuple(tensors)
    values = tensors[0].untyped_storage().nbytes() // tensors[0].element_size()
    return _Packed(
        tensors[0].as_strided((values,), (1,), 0), [(t.shape, t.stride(), int(t.storage_offset())) for t in tensors]
    )


def unpack(packed: _Packed | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors that `pack` was given."""
    return tuple(packed.memory.as_strided(*p) for p in packed.places) if isinstance(packed, _Packed) else packed


def _send(packed: _Packed) -> tuple:
    """How a queue between processes pickles it: (function, arguments) for the receiver."""
    with _lock:
        buffer = next((b for b in _pool if b.memory.data_ptr() == packed.memory.data_ptr()), None)
        if buffer is None:
            return _Packed, (packed.memory, packed.places)
        if buffer.is_sent:  # a second time: the main process may have cleared the flag of the first already
            return _Packed, (packed.memory.clone(), packed.places)
        buffer.bytes[-1], buffer.is_sent = 1, True
        memory = None if buffer.main_has_it else buffer.memory
        buffer.main_has_it = True
        discarded = _discarded[:]
        _discarded.clear()
    return _receive, (buffer.key, memory, discarded, packed.memory.dtype, packed.places)


ForkingPickler.register(_Packed, _send)


def _receive(key: Key, memory: Tensor | None, discarded: list[Key], dtype: torch.dtype, places: list) -> _Packed:
    """In the main process.  Forgets buffers that were discarded, and those of workers that have ended."""
    if memory is not None:
        _received[key] = memory.numpy()
    for other in list(_received):
        if other in discarded or (other[0] != key[0] and not _is_alive(other[0])):
            _received.pop(other, None)
    whole = _received[key]
    content = whole[:-_FLAG_BYTES]  # an array of its own, as in `_Buffer.take`
    weakref.finalize(content, _clear_flag, whole, os.getpid()).atexit = False
    return _Packed(torch.from_numpy(content).view(dtype), places)


def _clear_flag(whole: np.ndarray, process: int) -> None:
    if os.getpid() == process:  # a process forked from the main one only drops copies of its tensors
        whole[-1] = 0


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, under the number of one that ended
        pass
    return True
