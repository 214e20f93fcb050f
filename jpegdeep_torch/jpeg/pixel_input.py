"""JPEG bytes -> pixels at the wanted size, in one linear step from the coefficients and one rounding."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .axes import sample_matrix
from .geometry import Resize, component_axes, fit_image
from .header import JpegHeader, OpenedJpeg, open_jpeg
from .native import native_module
from .options import DEFAULT_OPTIONS, JpegWarning, ReadOptions
from .orientation import TURNS
from .quantization import FROM_RGB, TO_RGB
from .reader import Source, source_bytes

_DTYPES = ("uint8", "float32")


class PixelInput(NamedTuple):
    """Pixels, the (height, width) of the image that they were made from, and how it was resized."""

    pixels: np.ndarray
    image_size: tuple[int, int]
    resize: Resize


def read_rgb(
    source: Source,
    size: int | tuple[int, int] = 300,
    *,
    interpolation: str = "bilinear",
    antialias: bool = True,
    fit: str = "stretch",
    shorter_side: int | None = None,
    fill: tuple[float, float, float] = (114.0, 114.0, 114.0),
    resize: Resize | None = None,
    dtype: str = "uint8",
    channels_first: bool = False,
    out: np.ndarray | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    warnings: list[JpegWarning] | None = None,
) -> np.ndarray:
    """Reads a JPEG as RGB pixels of the wanted size: uint8 (300, 300, 3) for 300.

    Inverse DCT, chroma upsampling, crop, flip and resampling are one linear step, which begins with the file's
    coefficients.  One conversion of colours and one rounding follow.  Pillow rounds after each of its steps, so most of
    its values are the same and nearly all others beside.  The native part holds no lock of Python's.

    Args:
        source: bytes, or a path.
        size: of the result in pixels, a side or (height, width).
        interpolation: 'bilinear', 'bicubic', 'lanczos' or 'box', as Pillow has them.
        antialias: False: bilinear between the two nearest pixels, as cv2's INTER_LINEAR; for 'bilinear' alone.
        fit, shorter_side, fill: how the picture comes to that size (`fit_image`): stretched; with fit='crop', such as
            224 from a shorter side of 256; or with fit='letterbox'.
        resize: everything at once (crop, flip, place) in place of all these; in pixels of the picture that
            `options.orientation` gives.
        dtype: 'uint8', or 'float32', of 255 too, not rounded.
        channels_first: (3, height, width) instead of (height, width, 3).
        out: a buffer to write into, such as an item of a batch, of that shape: uint8 or float32, the pixels of a row
            contiguous.  A tensor's `.numpy()` will do.
        options, warnings: those of `read_planes`.

    Raises:
        JpegError: what cannot be read, as `decode_rgb`.
        ValueError: a crop outside the image, a buffer that does not fit, or a word that is none of these.
    """
    return read_pixels(
        source, size, interpolation=interpolation, antialias=antialias, fit=fit, shorter_side=shorter_side, fill=fill,
        resize=resize, dtype=dtype, channels_first=channels_first, out=out, options=options, warnings=warnings,
    ).pixels  # fmt: skip


def read_gray(source: Source, size: int | tuple[int, int] = 300, **arguments) -> np.ndarray:
    """Reads a JPEG's luma alone: uint8 (300, 300) for 300.  Nothing is made of the colours.

    Arguments and errors are those of `read_rgb`, but for `channels_first`.  Of an RGB file it is the Y that its pixels
    have.
    """
    return read_pixels(source, size, gray=True, **arguments).pixels


def read_pixels(
    source: Source,
    size: int | tuple[int, int] = 300,
    *,
    interpolation: str = "bilinear",
    antialias: bool = True,
    fit: str = "stretch",
    shorter_side: int | None = None,
    fill: tuple[float, float, float] = (114.0, 114.0, 114.0),
    resize: Resize | None = None,
    dtype: str = "uint8",
    channels_first: bool = False,
    out: np.ndarray | None = None,
    gray: bool = False,
    options: ReadOptions = DEFAULT_OPTIONS,
    warnings: list[JpegWarning] | None = None,
) -> PixelInput:
    """`read_rgb`, or with `gray` `read_gray`, with what is needed to bring boxes back to the image."""
    if not antialias and interpolation != "bilinear":
        raise ValueError(f"{interpolation!r} is always antialiased: antialias=False goes with 'bilinear' alone")
    name, data = source_bytes(source)
    opened = open_jpeg(data, name, options)
    header = opened.header
    if resize is None:
        resize = fit_image(
            header.image_size, size, fit, shorter_side=shorter_side, fill=fill, antialias=antialias,
            interpolation=interpolation,
        )  # fmt: skip
    pixels = _buffer(resize.size, dtype, channels_first, gray, out)
    canvas = pixels[..., None] if gray else pixels.transpose(1, 2, 0) if channels_first else pixels
    window, placed = _window(resize)
    _draw_fill(canvas, window, resize, gray)
    inside = canvas[window]
    if native_module() is not None and header.components != 4:
        opened.decode("resize_pixels", _native_target(inside, placed, header, gray))
    else:
        _resize_decoded(inside, placed, opened, gray)
    if warnings is not None:
        warnings += opened.warnings
    return PixelInput(pixels, header.image_size, resize)


def _buffer(size: tuple[int, int], dtype: str, channels_first: bool, gray: bool, out: np.ndarray | None) -> np.ndarray:
    """`out`, or a new one.  ValueError where it does not fit."""
    shape = size if gray else (3, *size) if channels_first else (*size, 3)
    if out is None:
        if dtype not in _DTYPES:
            raise ValueError(f"dtype is one of {', '.join(map(repr, _DTYPES))}, not {dtype!r}")
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype not in _DTYPES:
        raise ValueError(f"a buffer is uint8 or float32 of the shape {shape}, not {out.dtype} of {out.shape}")
    return out


def _window(resize: Resize) -> tuple[tuple[slice, slice], Resize]:
    """The part of the canvas that the picture covers, and the resizing of what is seen of it to that part alone."""
    top, left, height, width = resize.place or (0, 0, *resize.size)
    (first_row, end_row), (first_column, end_column) = (
        (max(0, start), min(limit, start + length))
        for start, length, limit in ((top, height, resize.size[0]), (left, width, resize.size[1]))
    )
    size = end_row - first_row, end_column - first_column
    if min(*size, height, width) < 1:
        raise ValueError(f"the place {resize.place} has nothing of the canvas of {resize.size} in it")
    place = top - first_row, left - first_column, height, width
    window = slice(first_row, end_row), slice(first_column, end_column)
    return window, dataclasses.replace(resize, size=size, place=place)


def _draw_fill(canvas: np.ndarray, window: tuple[slice, slice], resize: Resize, gray: bool) -> None:
    rows, columns = window
    if rows.stop - rows.start == canvas.shape[0] and columns.stop - columns.start == canvas.shape[1]:
        return
    matrix, offset = colour_matrix(resize, "ycbcr", gray)
    value = np.clip(matrix @ (np.array(resize.fill) - 128)[: matrix.shape[1]] + offset, 0, 255)
    if canvas.dtype == np.uint8:
        value = np.rint(value)
    for border in (
        canvas[: rows.start], canvas[rows.stop :], canvas[rows, : columns.start], canvas[rows, columns.stop :],
    ):  # fmt: skip
        border[...] = value


def colour_matrix(resize: Resize, colour: str, gray: bool) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, offset), float64: from a file's components about 0 to R, G and B of 255, or with `gray` to Y.

    The shift and the gain of `resize`, of which Y, Cb and Cr are told, are in it.
    colour: of the file, 'gray', 'ycbcr' or 'rgb'.
    """
    luma_gain, chroma_gain = resize.gain
    matrix = np.diag([luma_gain, chroma_gain, chroma_gain])
    if colour == "rgb":
        matrix = matrix @ np.array(FROM_RGB)
    matrix = matrix[:1] if gray else np.array(TO_RGB) @ matrix
    if colour == "gray" or (gray and colour != "rgb"):
        matrix = matrix[:, :1]
    return matrix, np.full(len(matrix), 128 + luma_gain * resize.luma_shift)


def _native_target(inside: np.ndarray, placed: Resize, header: JpegHeader, gray: bool):
    """The native kernel's description of the way from the file's components into (height, width, channels)."""
    transposed = TURNS[header.orientation].transpose
    geometry = dataclasses.replace(placed, fill=(128.0,) * 3, luma_shift=0.0, gain=(1.0, 1.0))
    plans = _pixel_plans(geometry, header.image_size, header.sampling, header.orientation)
    matrix, offset = _colours(placed.luma_shift, placed.gain, header.colour, gray)
    width = inside.shape[0 if transposed else 1]
    return native_module().PixelTarget(plans[: matrix.shape[1]], inside, width, matrix, offset, False, transposed)


@lru_cache(maxsize=64)
def _colours(luma_shift: float, gain: tuple[float, float], colour: str, gray: bool) -> tuple[np.ndarray, np.ndarray]:
    matrix, offset = colour_matrix(Resize(luma_shift=luma_shift, gain=gain), colour, gray)
    return matrix.astype(np.float32), offset.astype(np.float32)


@lru_cache(maxsize=256)
def _pixel_plans(resize: Resize, image_size, sampling, orientation) -> list[tuple]:
    """(of the stored rows, of the stored columns) for each component."""
    axes = component_axes(resize, image_size, sampling, orientation, to_pixels=True)
    if TURNS[orientation].transpose:
        axes = tuple((horizontal, vertical) for vertical, horizontal in axes)
    native = native_module()
    made = {pair: (native.RowFilter(pair[0]), native.AxisPlan(pair[1], True, True)) for pair in dict.fromkeys(axes)}
    return [made[pair] for pair in axes]


def _resize_decoded(inside: np.ndarray, placed: Resize, opened: OpenedJpeg, gray: bool) -> None:
    """The same from decoded pixels: of CMYK files, and where nothing native was built."""
    found: list[JpegWarning] = []
    from .pixels import decode_rgb  # imports PyTorch and OpenCV, without which the rest does

    pixels = decode_rgb(opened.data, opened.name, decoder="native", options=opened.options, warnings=found)
    opened.warnings += [warning for warning in found if warning not in opened.warnings]
    ((vertical, horizontal),) = component_axes(placed, pixels.shape[:2], ((1, 1),), to_pixels=True)
    down, across = (sample_matrix(axis)[:, : axis.image_px] for axis in (vertical, horizontal))
    matrix, offset = colour_matrix(placed, "rgb", gray)
    for k, row in enumerate(matrix):
        plane = down @ ((pixels - 128.0) @ row) @ across.T + offset[k]
        plane = np.clip(plane, 0, 255)
        inside[..., k] = np.rint(plane) if inside.dtype == np.uint8 else plane
