"""JPEG bytes -> `Planes`: entropy decoding, and nothing after it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..errors import JpegError
from .native import native_module
from .planes import Planes

# 300 MB of coefficients without subsampling, and as much again where a file has several scans.
MAX_PIXELS = 50_000_000

Source = bytes | bytearray | memoryview | str | os.PathLike


def source_bytes(source: Source) -> tuple[str, bytes]:
    """The name to give in errors ('<bytes>' for bytes) and the file's contents.

    JpegError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return "<bytes>", source
    if isinstance(source, bytearray | memoryview):
        return "<bytes>", bytes(source)
    try:
        return str(source), Path(source).read_bytes()
    except OSError as error:
        raise JpegError(source, error.strerror or str(error)) from None


def choose_reader(reader: str) -> str:
    """Resolves 'auto'; ValueError for an unknown name, or for 'native' where it was not built."""
    if reader not in ("auto", "native", "jpeg2dct"):
        raise ValueError(f"reader is 'auto', 'native' or 'jpeg2dct', not {reader!r}")
    if reader == "jpeg2dct":
        return reader
    if native_module() is not None:
        return "native"
    if reader == "native":
        raise ValueError("the native reader was not built here; reader='auto' falls back to jpeg2dct")
    return "jpeg2dct"


def read_planes(
    source: Source, *, reader: str = "auto", tolerate_warnings: bool = False, max_pixels: int = MAX_PIXELS
) -> Planes:
    """Reads the DCT coefficients of a JPEG, given as bytes or as a path.

    reader: 'native' reads grayscale and YCbCr of any sampling, baseline, progressive or arithmetic-coded, without
        transcoding.  'jpeg2dct' gives the same for grayscale and 4:2:0, and brings any other sampling to 4:2:0, at a
        loss; its Planes then say 4:2:0, with steps of 1.  'auto' is the native one where it was built.
    tolerate_warnings: take what there is of a damaged file: where libjpeg warns (cut short, corrupt data), missing
        blocks are zero.  jpeg2dct does not pass warnings on; for it, only the end of the file is checked.
    max_pixels: files of more pixels are refused before anything of their size is allocated.

    JpegError: not a JPEG, damaged, too large, CMYK or YCCK, RGB components, more than 8 bits per sample, or a scan
    script whose decoding would take far longer than its size warrants.
    """
    name, data = source_bytes(source)
    if choose_reader(reader) == "jpeg2dct":
        return _read_jpeg2dct(name, data, tolerate_warnings, max_pixels)
    file = open_native(name, data, tolerate_warnings=tolerate_warnings, max_pixels=max_pixels)
    try:
        coefficients, quantization = file.read()
    except native_module().DecodeError as error:
        raise JpegError(name, str(error)) from None
    return Planes(coefficients, file.image_size, file.sampling, quantization)


def read_many(sources: Iterable[Source], *, threads: int | None = None, **options) -> list[Planes]:
    """`read_planes` for many files on several threads (default: one per processor), in the order given.

    Raises the first JpegError of a file, in that order.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(lambda source: read_planes(source, **options), sources))


def open_native(name: str, data: bytes, *, tolerate_warnings: bool, max_pixels: int):
    """A `_native.File` whose header has been read and checked; JpegError."""
    native = native_module()
    try:
        return native.File(data, max_pixels, tolerate_warnings)
    except native.DecodeError as error:
        raise JpegError(name, str(error)) from None


def _read_jpeg2dct(name: str, data: bytes, tolerate_warnings: bool, max_pixels: int) -> Planes:
    import jpeg2dct.numpy
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            (width, height), mode, tables, layers = image.size, image.mode, image.quantization, image.layer
    except UnidentifiedImageError:  # its message holds an address in memory, different in every run
        raise JpegError(name, f"not a JPEG file ({len(data)} bytes)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise JpegError(name, str(error) or "not a JPEG") from None
    if mode not in ("L", "RGB"):
        raise JpegError(name, f"its mode is {mode}; only grayscale and YCbCr are supported")
    if width * height > max_pixels:
        raise JpegError(name, f"{width} x {height} pixels, more than the limit of {max_pixels}")
    if not tolerate_warnings and b"\xff\xd9" not in data[-1024:]:
        raise JpegError(name, "Premature end of JPEG file")
    try:
        bands = jpeg2dct.numpy.loads(data, channels=1 if mode == "L" else 3)
    except RuntimeError as error:
        raise JpegError(name, str(error)) from None
    sampling = tuple((h, v) for _, h, v, _ in layers)
    quantization = np.array([tables[table] for *_, table in layers], np.uint16)
    if len(sampling) == 3 and sampling != ((2, 2), (1, 1), (1, 1)):
        sampling, quantization = ((2, 2), (1, 1), (1, 1)), np.ones((3, 64), np.uint16)
    return Planes(tuple(np.asarray(band) for band in bands), (height, width), sampling, quantization)
