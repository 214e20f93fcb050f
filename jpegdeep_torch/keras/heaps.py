"""A look at an HDF5 file's global heaps before HDF5 reads them: in a damaged one its library can turn round for ever.

Texts of variable length, such as Keras's attributes, lie in global heaps ("GCOL"; HDF5 File Format Specification 3.0,
III.E).  HDF5 goes from object to object by their sizes, and a size of 0 takes it nowhere.
"""

from __future__ import annotations

import mmap
import os
import struct

_HEAD = struct.Struct("<4sB3xQ")  # "GCOL", version 1, the collection's size in bytes, this head included
_OBJECT = struct.Struct("<HH4xQ")  # index, references, size without this head; of free space (index 0): with it
_SMALLEST = 4096  # a collection's size, by the specification


def endless_heap(path: str | os.PathLike[str]) -> int | None:
    """The place in the file of a global heap that HDF5 would not come to the end of; None where there is none."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(b"GCOL")
        while start >= 0:
            if len(data) - start >= _HEAD.size and _is_endless(data, start):
                return start
            start = data.find(b"GCOL", start + 4)
    return None


def _is_endless(data: mmap.mmap, start: int) -> bool:
    _, version, size = _HEAD.unpack_from(data, start)
    if version != 1 or size < _SMALLEST or start + size > len(data):
        return False  # other bytes that happen to say so, or what HDF5 itself refuses
    place, end = start + _HEAD.size, start + size
    while end - place >= _OBJECT.size:
        index, _, length = _OBJECT.unpack_from(data, place)
        if index == 0 and length == 0:
            return True
        place += length if index == 0 else _OBJECT.size + -(-length // 8) * 8
    return False
