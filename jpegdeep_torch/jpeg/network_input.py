"""JPEG bytes -> what a DCT network takes, in one call that never decodes a pixel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import JpegError
from .geometry import Resize
from .native import native_module
from .quantization import Quality
from .reader import MAX_PIXELS, Source, choose_reader, open_native, read_planes, source_bytes
from .resize import fill_gray_chroma, native_targets, resize_planes


class DctInput(NamedTuple):
    """A network's input, and the (height, width) in pixels of the image that it was made from.

    luma: (rows, columns, 64), chroma: (rows, columns, 128), Cb then Cr; dequantised, frequencies in natural order.
    """

    luma: np.ndarray
    chroma: np.ndarray | None
    image_size: tuple[int, int]


def read_dct(
    source: Source,
    size: int | tuple[int, int] = 300,
    *,
    antialias: bool = False,
    requantize: Quality = None,
    resize: Resize | None = None,
    out: tuple[np.ndarray, np.ndarray | None] | None = None,
    chroma: bool = True,
    reader: str = "auto",
    tolerate_warnings: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> DctInput:
    """Reads a JPEG's coefficients and resizes them: luma int16 (38, 38, 64), chroma int16 (19, 19, 128) for 300.

    source: bytes, or a path.
    size: of the canvas in pixels, a side or (height, width); `antialias` is Resize's.  `resize` says everything at once
        (crop, flip, place) in place of these two.
    requantize: round to the steps of Pillow's tables of this quality; a pair: of luma and of
        chroma.  With 75 and no antialiasing the result is, but
        for what pixels are rounded to on the way, that of decoding, resizing to 300 x 300 and compressing again with
        Pillow, which is what the reference's networks are trained on.
    out: buffers to write into, such as an item of a batch: int16 or float32, of the shapes above, each with contiguous
        frequencies.  A tensor's `.numpy()` will do.
    chroma: False reads no colour: `chroma` is None (for the networks that take luma alone).
    reader, tolerate_warnings, max_pixels: those of `read_planes`.

    The native part holds no lock of Python's.  JpegError as `read_planes`, and for sampling factors whose ratio is not
    a whole number; ValueError for a crop outside the image or buffers that do not fit.
    """
    if resize is None:
        resize = Resize((size, size) if isinstance(size, int) else tuple(size), antialias)
    if out is None:
        luma_grid, chroma_grid = resize.grids()
        out = np.empty((*luma_grid, 64), np.int16), np.empty((*chroma_grid, 128), np.int16) if chroma else None
    if choose_reader(reader) == "jpeg2dct":
        limits = {"tolerate_warnings": tolerate_warnings, "max_pixels": max_pixels}
        return _by_parts(source, resize, out, requantize, reader="jpeg2dct", **limits)
    name, data = source_bytes(source)
    file = open_native(name, data, tolerate_warnings=tolerate_warnings, max_pixels=max_pixels)
    image_size, sampling = file.image_size, file.sampling
    try:
        file.resize(native_targets(*out, resize, image_size, sampling, requantize))
    except JpegError as error:
        raise JpegError(name, error.reason) from None
    except native_module().DecodeError as error:
        raise JpegError(name, str(error)) from None
    if len(sampling) == 1 and out[1] is not None:
        fill_gray_chroma(out[1], resize, requantize)
    return DctInput(*out, image_size)


def _by_parts(source, resize, out, requantize, **options) -> DctInput:
    """The way without the native part: jpeg2dct, then PyTorch."""
    planes = read_planes(source, **options)
    for buffer, result in zip(out, resize_planes(planes, resize, requantize=requantize, dtype="float32")):
        if buffer is not None:
            buffer[...] = result if buffer.dtype == np.float32 else np.rint(result).clip(-32767, 32767)
    return DctInput(*out, planes.image_size)
