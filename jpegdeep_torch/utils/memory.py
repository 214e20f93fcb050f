"""The C library's memory: what PyTorch frees after one batch is what it needs for the next."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = -1  # mallopt(3): no trimming


def keep_freed_memory() -> bool:
    """Has this process keep freed memory for its next allocations -> whether it could be done (glibc alone).

    glibc maps each allocation above 32 MiB anew and gives it back when it is freed, so that the system clears its pages
    every time: an activation of an SSD300 on pixels is that large from a batch of 2 on, and a batch of 8 takes 1.4
    times as long.  Memory then stays at its peak until the process ends; a larger allocation may find freed memory in
    pieces that are too small.  It holds for the whole process: this project's commands call it, importing does not.
    """
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


def give_back_freed_memory() -> bool:
    """Gives what was freed back to the system, once -> whether there was any (glibc alone)."""
    malloc_trim = _of_glibc("malloc_trim")
    return malloc_trim is not None and bool(malloc_trim(ctypes.c_size_t(0)))


def _of_glibc(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
