"""Whether a JPEG's data are all there, where no native decoder was built to say so.

Decoders fill what is missing with grey and say nothing.  So a quick decoding to an eighth is looked at: grey where
data end makes a file suspect.  Of a suspect, and of a file without an end, the Huffman codes are counted, which is
slow in Python but rare.  Codes that do not exist, in the middle of the data, are found of suspects alone.
"""

from __future__ import annotations

import io
import re
import struct

import numpy as np

from ..errors import JpegError
from .markers import JpegHeader, find_end
from .options import JpegWarning, ReadOptions

_RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
_READ_AHEAD_BITS = 128  # of zeros at the end, which libjpeg's decoder may take in without need
_NO_END, _CUT = "Premature end of JPEG file", "Corrupt JPEG data: premature end of data segment"


def check_entropy_coding(data: bytes, header: JpegHeader, options: ReadOptions, name: object) -> list[JpegWarning]:
    """What is unusual about the scans.  Raises JpegError for what `options` do not take."""
    end = find_end(data, header)
    found = [JpegWarning(message) for message in header.unusual]
    if end is None:
        found.append(JpegWarning(_NO_END))
    if (end is None or _grey_at_an_end(data, header)) and _is_cut(data, header, end):
        found.append(JpegWarning(_CUT))
        if options.on_damage == "error":
            raise JpegError(name, f"truncated after {len(data)} bytes ({_CUT})" if end is None else _CUT)
    if found and options.on_damage == "strict":
        raise JpegError(name, found[0].message)
    return found


def _grey_at_an_end(data: bytes, header: JpegHeader) -> bool:
    """Whether the last luma block of a restart interval, or of the picture, is mid-grey."""
    from PIL import Image, JpegImagePlugin  # here, so that coefficients can be read without it

    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
            image.draft("L", (1, 1))
            small = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True
    horizontal, vertical = header.sampling[0] if header.components > 1 else (1, 1)
    columns = _mcu_grid(header)[1]
    mcus = _interval_ends(data, header)
    rows = np.minimum(mcus // columns * vertical + vertical - 1, small.shape[0] - 1)
    across = np.minimum(mcus % columns * horizontal + horizontal - 1, small.shape[1] - 1)
    return bool((small[rows, across] == 128).any())


def _mcu_grid(header: JpegHeader) -> tuple[int, int]:
    height, width = header.stored_size
    widest, highest = (max(factors) for factors in zip(*header.sampling)) if header.components > 1 else (1, 1)
    return -(-height // (8 * highest)), -(-width // (8 * widest))


def _interval(data: bytes, header: JpegHeader) -> int:
    """MCUs from one restart marker to the next; all of them where there are none."""
    rows, columns = _mcu_grid(header)
    if header.restart_intervals:
        first, _ = header.restart_intervals[-1]
        return int.from_bytes(data[first + 4 : first + 6], "big") or rows * columns
    return rows * columns


def _interval_ends(data: bytes, header: JpegHeader) -> np.ndarray:
    rows, columns = _mcu_grid(header)
    interval = _interval(data, header)
    return np.minimum(np.arange(interval, rows * columns + interval, interval), rows * columns) - 1


def _is_cut(data: bytes, header: JpegHeader, end: int | None) -> bool:
    """Whether the MCUs of a sequential file take more bits than there are.  Of other files: whether there is no end."""
    if header.several_scans or header.arithmetic:
        return end is None
    components = _scan_components(data, header)
    if components is None:
        return end is None
    scan = data[header.scan_start : len(data) if end is None else end]
    intervals = [part.replace(b"\xff\x00", b"\xff") for part in _RESTARTS.split(scan)]
    mcus, length = int(np.prod(_mcu_grid(header))), _interval(data, header)
    expected = -(-mcus // length)
    numbers = [marker[1] & 7 for marker in _RESTARTS.findall(scan)]
    if numbers != [i % 8 for i in range(len(numbers))] or len(intervals) > expected:
        return False  # restart markers that are missing or too many: libjpeg goes on behind the next
    if len(intervals) < expected:
        return True
    used: int | None = 0
    for i, part in enumerate(intervals):
        used = _bits_used(part, components, min(length, mcus - i * length))
        if used is None or used > 8 * len(part):
            return True
    zeros = len(intervals[-1]) - len(intervals[-1].rstrip(b"\x00"))
    return end is None and used is not None and used > 8 * (len(intervals[-1]) - zeros) + _READ_AHEAD_BITS


def _scan_components(data: bytes, header: JpegHeader) -> list[tuple[int, list[int], list[int]]] | None:
    """(blocks in an MCU, DC codes, AC codes) of each component of the scan; None where a table is missing."""
    tables: dict[int, list[int]] = {}
    frame, position = b"", 2
    while position < header.scan_start:
        position = data.index(b"\xff", position)
        marker = data[position + 1]
        if marker in (0x00, 0xFF, 0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if marker == 0xC4:
            _read_tables(segment, tables)
        elif 0xC0 <= marker <= 0xC2:
            frame = segment
        position += 2 + length
    factors = {frame[6 + 3 * i]: frame[7 + 3 * i] for i in range(frame[5])}
    result = []
    for i in range(segment[0]):  # the scan header is the last segment
        component, selectors = segment[1 + 2 * i], segment[2 + 2 * i]
        dc, ac = tables.get(selectors >> 4), tables.get(0x10 | selectors & 15)
        if dc is None or ac is None or component not in factors:
            return None
        blocks = (factors[component] >> 4) * (factors[component] & 15) if segment[0] > 1 else 1
        result.append((blocks, dc, ac))
    return result


def _read_tables(segment: bytes, tables: dict[int, list[int]]) -> None:
    """Each table as 65,536 entries, by the next 16 bits: 256 * length + symbol of their code, 0 where there is none."""
    while len(segment) >= 17:
        counts, symbols = segment[1:17], iter(segment[17:])
        codes: list[int] = []
        for length, count in enumerate(counts, start=1):
            for _ in range(count):
                codes += [256 * length + next(symbols, 0)] * (1 << (16 - length))
        tables[segment[0]] = (codes + [0] * 65536)[:65536]
        segment = segment[17 + sum(counts) :]


def _bits_used(data: bytes, components: list[tuple[int, list[int], list[int]]], mcus: int) -> int | None:
    """How many bits so many MCUs take, or where it stopped beyond the end; None at a code that does not exist."""
    position, limit = 0, 8 * len(data)
    data += b"\x00" * 8
    for _ in range(mcus):
        for blocks, dc, ac in components:
            for _ in range(blocks):
                codes, k = dc, 0
                while k < 64:
                    at = position >> 3
                    window = int.from_bytes(data[at : at + 3], "big") >> (8 - (position & 7)) & 0xFFFF
                    entry = codes[window]
                    if entry == 0:
                        return position + 16 if position + 16 > limit else None
                    size = entry & 15
                    position += (entry >> 8) + size
                    if k == 0:
                        codes, k = ac, 1
                    elif size:
                        k += (entry >> 4 & 15) + 1
                    elif entry & 0xF0 == 0xF0:
                        k += 16
                    else:
                        break
                if position > limit:
                    return position
    return position
