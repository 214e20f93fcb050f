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
    antialias: whether the resampler widens its triangle when it shrinks.
    drop_frequencies: whether frequencies that the output cannot hold are left out.
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
    antialias: bool
    drop_frequencies: bool


def bilinear_matrix(in_px: int, out_px: int, antialias: bool) -> np.ndarray:
    """The resampler as a float64 matrix (out_px, in_px), each row summing to 1.

    Pixel centres lie at half pixels and edges are clamped.  Without antialiasing: two taps, as cv2's INTER_LINEAR and
    torch's interpolate(mode='bilinear', align_corners=False) have.  With it: a triangle as wide as the scale when
    shrinking, its taps beyond the edges left out, as Pillow's and torch's antialias=True have.
    """
    scale = in_px / out_px
    if not antialias or scale <= 1:
        source = np.clip((np.arange(out_px) + 0.5) * scale - 0.5, 0, in_px - 1)
        left = np.minimum(source.astype(np.int64), max(in_px - 2, 0))
        matrix = np.zeros((out_px, in_px))
        rows = np.arange(out_px)
        matrix[rows, left] = 1 - (source - left)
        if in_px > 1:
            matrix[rows, left + 1] = source - left
        return matrix
    centre = (np.arange(out_px)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(in_px)[None, :] + 0.5 - centre) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def kept_frequencies(axis: Axis) -> int:
    """How many of a block's 8 frequencies are below the output's Nyquist limit."""
    samples_in = (axis.stop_px - axis.start_px) / axis.ratio
    samples_out = axis.place_px / (2 if axis.halve else 1)
    return min(8, max(1, int(np.ceil(8 * samples_out / samples_in))))


def axis_matrix(axis: Axis) -> np.ndarray:
    """float64 (8 * output blocks, 8 * input blocks): from the file's coefficients to the network's, along one axis."""
    samples = _sample_matrix(axis)
    blocks_out, blocks_in = samples.shape[0] // 8, -(-samples.shape[1] // 8)
    # Samples by which the encoder filled up its last block are in its coefficients, and nothing is made of them.
    padded = np.zeros((8 * blocks_out, 8 * blocks_in))
    padded[:, : samples.shape[1]] = samples
    half = (padded.reshape(-1, 8) @ DCT.T).reshape(blocks_out, 8, 8 * blocks_in)
    matrix = np.matmul(DCT, half)
    if axis.drop_frequencies:
        matrix.reshape(blocks_out, 8, blocks_in, 8)[..., kept_frequencies(axis) :] = 0
    return matrix.reshape(8 * blocks_out, 8 * blocks_in)


def _sample_matrix(axis: Axis) -> np.ndarray:
    """S: (8 * output blocks, samples of the component)."""
    used_px = axis.stop_px - axis.start_px
    resampled = bilinear_matrix(used_px, axis.place_px, axis.antialias)
    canvas = np.zeros((axis.canvas_px, axis.image_px))
    inside = slice(axis.before_px, axis.before_px + axis.place_px)
    canvas[inside, axis.start_px : axis.stop_px] = resampled[:, ::-1] if axis.flip else resampled
    return _fill_last_block(_from_component(canvas, axis.ratio, axis.smooth), axis)


def _from_component(matrix: np.ndarray, ratio: int, smooth: bool) -> np.ndarray:
    """Takes a matrix over image pixels to one over the component's samples: times libjpeg's upsampling."""
    if ratio == 1:
        return matrix
    count = -(-matrix.shape[1] // ratio)
    whole = np.zeros((matrix.shape[0], count * ratio))
    whole[:, : matrix.shape[1]] = matrix
    if not smooth:
        return whole.reshape(-1, count, ratio).sum(axis=2)
    # A pixel is 3/4 of the sample that it lies in and 1/4 of the one it is nearer to; edges are clamped.
    even, odd = whole[:, 0::2], whole[:, 1::2]
    result = 0.75 * (even + odd)
    result[:, :-1] += 0.25 * even[:, 1:]
    result[:, 1:] += 0.25 * odd[:, :-1]
    result[:, 0] += 0.25 * even[:, 0]
    result[:, -1] += 0.25 * odd[:, -1]
    return result


def _fill_last_block(matrix: np.ndarray, axis: Axis) -> np.ndarray:
    """Halves the canvas where asked, and repeats its end up to a whole number of blocks, as libjpeg does."""
    if not axis.halve:
        return _repeat_last(matrix, -(-axis.canvas_px // 8) * 8)
    samples = -(-axis.canvas_px // 2)
    whole = -(-samples // 8) * 8
    matrix = _repeat_last(matrix, 2 * (whole if axis.repeat_pixels else samples))
    return _repeat_last((matrix[0::2] + matrix[1::2]) / 2, whole)


def _repeat_last(matrix: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([matrix, np.repeat(matrix[-1:], rows - len(matrix), axis=0)])
