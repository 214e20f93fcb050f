"""Which way up a picture is: the EXIF orientation, and what it makes of an array of pixels."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

_TAG = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF's types: bytes, and unsigned numbers of 16 and of 32 bits


class Turn(NamedTuple):
    """From the stored picture to the upright one: first the transposition, then the mirrors."""

    transpose: bool  # rows become columns
    flip_vertical: bool  # the upright picture's rows change their order
    flip_horizontal: bool  # and its columns


TURNS = {
    1: Turn(False, False, False),
    2: Turn(False, False, True),
    3: Turn(False, True, True),
    4: Turn(False, True, False),
    5: Turn(True, False, False),
    6: Turn(True, False, True),
    7: Turn(True, True, True),
    8: Turn(True, True, False),
}


def exif_orientation(segment: bytes) -> int:
    """The orientation 1..8 that the body of an APP1 segment states; 1, the stored frame, where it states none.

    An EXIF block that is damaged, or of another orientation, counts as one that states none.
    """
    if segment[:6] != b"Exif\x00\x00":
        return 1
    tiff = segment[6:]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", tiff, entry)
            if tag == _TAG and kind in _INTEGERS and count == 1:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], tiff, entry + 8)
                return value if value in TURNS else 1
    except struct.error:  # an offset beyond the segment
        pass
    return 1


def upright_size(stored_size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) of the upright picture; and from an upright picture's to the stored one's."""
    return stored_size[::-1] if TURNS[orientation].transpose else stored_size


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored -> the upright picture, contiguous; the array itself where nothing is to be turned."""
    import cv2  # here, so that coefficients can be read without it

    turn = TURNS[orientation]
    if turn.transpose:
        pixels = cv2.transpose(pixels)
    if turn.flip_vertical or turn.flip_horizontal:
        pixels = cv2.flip(pixels, -1 if turn.flip_vertical and turn.flip_horizontal else int(turn.flip_horizontal))
    return pixels
