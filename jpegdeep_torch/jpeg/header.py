"""What a JPEG's markers say, and whether the file is whole: ITU-T T.81, annex B.

Decoders fill the missing end of a truncated file with grey and say nothing; jpeg2dct does the same with zeros.  So the
markers are walked to the end of image before any of them is asked.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from ..errors import JpegError

_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length: TEM and RST0 to RST7
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # frame headers; C4, C8 and CC are DHT, JPG and DAC
_NEXT_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # in entropy-coded data: neither stuffing nor a restart


@dataclass(frozen=True)
class JpegHeader:
    """`sampling` holds each component's (horizontal, vertical) factors."""

    height: int
    width: int
    precision: int  # bits a sample
    sampling: tuple[tuple[int, int], ...]
    progressive: bool
    arithmetic: bool

    @property
    def components(self) -> int:
        return len(self.sampling)


def read_header(data: bytes, name: object = "<bytes>") -> JpegHeader:
    """The frame header of a JPEG; JpegError where `data` is empty, no JPEG, or ends before its end-of-image marker."""
    if not data:
        raise JpegError(name, "empty file, expected a JPEG")
    if data[:2] != b"\xff\xd8":
        raise JpegError(name, f"not a JPEG (starts with {data[:4]!r}, expected b'\\xff\\xd8')")
    header, position, scans = None, 2, 0
    while True:
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            raise JpegError(name, f"truncated after {len(data)} bytes: no end-of-image marker")
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            break
        if marker in _STANDALONE or marker == 0xD8:
            continue
        if position + 2 > len(data):
            raise JpegError(name, f"truncated after {len(data)} bytes: in a marker segment")
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2 or position + length > len(data):
            raise JpegError(name, f"truncated or damaged: segment ff{marker:02x} of {length} bytes at byte {position}")
        if marker in _SOF and header is None:
            header = _frame(data[position + 2 : position + length], marker, name)
        scans += marker == 0xDA
        position += length
    if header is None or not scans:
        raise JpegError(name, "no image in it: " + ("no frame header" if header is None else "no scan"))
    return header


def _frame(segment: bytes, marker: int, name: object) -> JpegHeader:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise JpegError(name, "damaged: frame header cut short")
    precision, height, width, count = struct.unpack_from(">BHHB", segment)
    if not height or not width:
        raise JpegError(name, f"damaged: an image of {width}x{height} pixels")
    sampling = tuple((segment[7 + 3 * i] >> 4, segment[7 + 3 * i] & 15) for i in range(count))
    if not count or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in sampling):
        raise JpegError(name, f"damaged: sampling factors {sampling}")
    return JpegHeader(height, width, precision, sampling, marker in (0xC2, 0xC6, 0xCA, 0xCE), marker >= 0xC9)
