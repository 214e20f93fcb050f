"""Resizing in the DCT domain, one axis at a time: the matrix T_out S T_in^T.

T is the 8-point DCT, block by block, and S everything that a pixel path would do along the axis: bring the component
to the image's resolution, crop, flip, resample, place, subsample, fill the last block.  All of it is linear, so the
matrix is the whole of it; only what a pixel path rounds and clips on the way is not there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def _dct_matrix() -> np.ndarray:
    """T of JPEG (ITU-T T.81, A.3.3): (8, 8), orthonormal, row = frequency, column = sample."""
    frequency, sample = np.arange(8)[:, None], np.arange(8)[None, :]
    rows = np.cos((2 * sample + 1) * frequency * np.pi / 16) / 2
    rows[0] /= np.sqrt(2)
    return rows


DCT = _dct_matrix()


@dataclass(frozen=True)
class Axis:
    """One axis of one component, in and out.  Lengths in pixels.

    image_px: length of the image.
    ratio: image pixels per sample of the component in the file (1, or 2 for chroma of 4:2:0).
    smooth: whether a ratio of 2 is interpolated, as libjpeg's 'fancy' upsampling does, or repeated.
    start_px, stop_px: the part of the image that is used.
    flip: whether that part is mirrored.
    place_px: the length that it is resampled to.
    before_px: where it begins on the canvas.
    canvas_px: length of the canvas.
    halve: whether the canvas's samples are averaged in pairs (chroma of 4:2:0).
    repeat_pixels: what fills up the last block of a halved axis: the last pixel of the canvas (libjpeg's compressor,
        horizontally) or the last average (vertically).
    filter: the resampler, one of FILTERS or 'two-nearest'.
    """

    image_px: int
    ratio: int
    smooth: bool
    start_px: int
    stop_px: int
    flip: bool
    place_px: int
    before_px: int
    canvas_px: int
    halve: bool
    repeat_pixels: bool
    filter: str


def axis_blocks(axis: Axis) -> tuple[int, int]:
    """How many blocks the axis has in the network's grid, and in the file's."""
    samples = -(-axis.canvas_px // 2) if axis.halve else axis.canvas_px
    return -(-samples // 8), -(-axis.image_px // (8 * axis.ratio))


def axis_matrix(axis: Axis) -> np.ndarray:
    """float64 (8 * output blocks, 8 * input blocks): from the file's coefficients to the network's, along one axis."""
    output_blocks, input_blocks = axis_blocks(axis)
    matrix = np.zeros((8 * output_blocks, 8 * input_blocks))
    for o in range(output_blocks):
        first, piece = _piece(axis, o)
        matrix[8 * o : 8 * o + 8, 8 * first : 8 * first + piece.shape[1]] = piece
    return matrix


def sample_matrix(axis: Axis) -> np.ndarray:
    """float64 (canvas pixels, 8 * input blocks): S alone, from the component's samples to the canvas."""
    output_blocks, input_blocks = axis_blocks(axis)
    matrix = np.zeros((8 * output_blocks, 8 * input_blocks))
    for o in range(output_blocks):
        first, rows = _sample_rows(axis, o)
        matrix[8 * o : 8 * o + 8, first : first + rows.shape[1]] = rows
    return matrix[: axis.canvas_px]


def _piece(axis: Axis, output_block: int) -> tuple[int, np.ndarray]:
    """What of an output block's 8 rows is not zero: (its first input block, (8, 8 * input blocks))."""
    first_sample, rows = _sample_rows(axis, output_block)
    # Samples by which the encoder filled up its last block are in its coefficients, and nothing is made of them.
    first_block, end_block = first_sample // 8, -(-(first_sample + rows.shape[1]) // 8)
    padded = np.zeros((8, 8 * (end_block - first_block)))
    padded[:, first_sample - 8 * first_block :][:, : rows.shape[1]] = rows
    return first_block, DCT @ (padded.reshape(-1, 8) @ DCT.T).reshape(8, -1)


def _sample_rows(axis: Axis, output_block: int) -> tuple[int, np.ndarray]:
    """The same over samples instead of coefficients, before any DCT: (the first sample, (8, samples))."""
    placed = _canvas_pixels(axis, output_block) - axis.before_px  # (2, 8)
    inside = (placed >= 0) & (placed < axis.place_px)
    if not inside.any():
        return 0, np.zeros((8, 0))
    used_px = axis.stop_px - axis.start_px
    low, weights = _resampler(np.clip(placed, 0, axis.place_px - 1), used_px, axis.place_px, axis.filter)
    rows = (weights * inside[..., None]).mean(axis=0)  # over pixels low, low + 1, ... of the part that is used
    if axis.flip:
        low, rows = used_px - low - rows.shape[1], rows[:, ::-1]
    return _over_samples(rows, axis.start_px + low, axis)


def _canvas_pixels(axis: Axis, output_block: int) -> np.ndarray:
    """int64 (2, 8): the two pixels of the canvas whose mean is each sample of an output block.

    Beyond the canvas its end is repeated, as libjpeg's compressor does (jcsample.c, jcprepct.c).
    """
    samples = np.arange(8 * output_block, 8 * output_block + 8)
    if axis.halve:
        if not axis.repeat_pixels:
            samples = np.minimum(samples, -(-axis.canvas_px // 2) - 1)
        pixels = np.stack([2 * samples, 2 * samples + 1])
    else:
        pixels = np.stack([samples, samples])
    return np.minimum(pixels, axis.canvas_px - 1)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution with a = -1/2 (1981)."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))


FILTERS = {  # Pillow's: half the width in pixels, and the weight at a distance
    "bilinear": (1.0, lambda x: np.maximum(0, 1 - np.abs(x))),
    "bicubic": (2.0, _cubic),
    "lanczos": (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)),
    "box": (0.5, lambda x: np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)),
}


def _resampler(rows: np.ndarray, in_px: int, out_px: int, filter: str) -> tuple[int, np.ndarray]:
    """Those rows of the resampler's matrix: the first column that is not zero in all, and float64 (*rows.shape, n).

    Pixel centres lie at half pixels.  'two-nearest': bilinear between two pixels, edges clamped, as cv2's INTER_LINEAR
    and torch's interpolate(mode='bilinear', align_corners=False) have.  The filters, which widen with the scale when
    shrinking: taps beyond the edges are left out, as in Pillow and in torch's antialias=True.
    """
    scale = in_px / out_px
    centre = (rows + 0.5) * scale
    if filter == "two-nearest" or (filter == "bilinear" and scale <= 1):
        source = np.clip(centre - 0.5, 0, in_px - 1)
        low, high = int(source.min()), min(in_px, int(source.max()) + 2)
        return low, np.maximum(0, 1 - np.abs(np.arange(low, high) - source[..., None]))
    support, weight = FILTERS[filter]
    widening = max(scale, 1.0)
    support *= widening
    low, high = max(0, int(np.floor(centre.min() - support))), min(in_px, int(np.ceil(centre.max() + support)))
    # In the order of Pillow's sums: where a box ends on a pixel's centre, the last bit decides.
    pixels, centre = np.arange(low, high), centre[..., None]
    weights = weight((pixels - centre + 0.5) * (1 / widening))
    weights *= (pixels >= np.floor(centre - support + 0.5)) & (pixels < np.floor(centre + support + 0.5))
    return low, weights / weights.sum(axis=-1, keepdims=True)


def _over_samples(rows: np.ndarray, first_px: int, axis: Axis) -> tuple[int, np.ndarray]:
    """From columns over the image's pixels to columns over the component's samples, of which the first is returned
    too: times libjpeg's upsampling."""
    ratio = axis.ratio
    if ratio == 1:
        return first_px, rows
    # A sample more on each side, where there is one: interpolation reaches that far, and clamps only at the ends.
    first = max(0, first_px // ratio - 1)
    end = min(-(-axis.image_px // ratio), -(-(first_px + rows.shape[1]) // ratio) + 1)
    whole = np.zeros((len(rows), (end - first) * ratio))
    whole[:, first_px - first * ratio :][:, : rows.shape[1]] = rows
    if not axis.smooth:
        return first, whole.reshape(len(rows), -1, ratio).sum(axis=2)
    # A pixel is 3/4 of the sample that it lies in and 1/4 of the one it is nearer to.
    even, odd = whole[:, 0::2], whole[:, 1::2]
    result = 0.75 * (even + odd)
    result[:, :-1] += 0.25 * even[:, 1:]
    result[:, 1:] += 0.25 * odd[:, :-1]
    result[:, 0] += 0.25 * even[:, 0]
    result[:, -1] += 0.25 * odd[:, -1]
    return first, result
