"""JPEG bytes -> what a DCT network takes, in one call that never decodes a pixel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .geometry import Resize
from .options import DEFAULT_OPTIONS, JpegWarning, ReadOptions
from .planes import Planes
from .quantization import Quality
from .reader import Source, choose_reader, open_source, planes_of
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
    options: ReadOptions = DEFAULT_OPTIONS,
    warnings: list[JpegWarning] | None = None,
    threads: int = 1,
) -> DctInput:
    """Reads a JPEG's coefficients and resizes them: luma int16 (38, 38, 64), chroma int16 (19, 19, 128) for 300.

    The native part holds no lock of Python's.

    Args:
        source: bytes, or a path.
        size: of the canvas in pixels, a side or (height, width).
        antialias: Resize's.
        requantize: round to the steps of Pillow's tables of this quality; a pair: of luma and of chroma.  With 75 and
            no antialiasing the result is, but for what pixels are rounded to on the way, that of decoding, resizing to
            300 x 300 and compressing again with Pillow, which is what the reference's networks are trained on.
        resize: everything at once (crop, flip, place) in place of `size` and `antialias`; in pixels of the picture
            that `options.orientation` gives.
        out: buffers to write into, such as an item of a batch: int16 or float32, of the shapes above, each with
            contiguous frequencies.  A tensor's `.numpy()` will do.
        chroma: False reads no colour: `chroma` is None (for the networks that take luma alone).
        reader, options, warnings, threads: those of `read_planes`.

    Raises:
        UnsupportedCoding, JpegError: as `read_planes`.
        ValueError: a crop outside the image, or buffers that do not fit.
    """
    if resize is None:
        resize = Resize((size, size) if isinstance(size, int) else (size[0], size[1]), antialias)
    if out is None:
        luma_grid, chroma_grid = resize.grids()
        out = np.empty((*luma_grid, 64), np.int16), np.empty((*chroma_grid, 128), np.int16) if chroma else None
    chosen = choose_reader(reader)
    opened = open_source(source, options)
    header = opened.header
    if chosen == "native" and header.colour != "rgb":
        targets = native_targets(*out, resize, header.image_size, header.sampling, requantize, header.orientation)
        opened.decode("resize", targets, False, threads)
        if header.components == 1 and out[1] is not None:
            fill_gray_chroma(out[1], resize, requantize)
    else:
        _by_parts(planes_of(opened, chosen), resize, out, requantize)
    if warnings is not None:
        warnings += opened.warnings
    return DctInput(*out, header.image_size)


def _by_parts(planes: Planes, resize: Resize, out: tuple[np.ndarray, np.ndarray | None], requantize: Quality) -> None:
    """First all coefficients, then PyTorch: without the native part, and for planes of numbers that are not whole."""
    for buffer, result in zip(out, resize_planes(planes, resize, requantize=requantize, dtype="float32")):
        if buffer is not None:
            buffer[...] = result if buffer.dtype == np.float32 else np.rint(result).clip(-32767, 32767)
