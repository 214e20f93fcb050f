"""Coefficients from a file's grid of blocks to a network's, on the CPU: by the native kernel or by PyTorch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .axes import Axis
from .geometry import Resize, component_axes
from .native import native_module
from .orientation import TURNS
from .planes import Planes
from .quantization import Quality, component_steps


def resize_planes(
    planes: Planes, resize: Resize, *, requantize: Quality = None, dtype: str = "int16", backend: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes one file's planes on the CPU: luma (rows, columns, 64) and chroma (rows, columns, 128), Cb then Cr.

    requantize: round each coefficient to a multiple of its step in Pillow's table of this quality; a pair: of luma
        and of chroma.
    dtype: 'int16', rounded, or 'float32'.
    backend: 'native', 'torch', or 'auto' for the native one where it was built.
    A grayscale file's chroma is zero, or the fill's where there is one.
    """
    fractional = planes.coefficients[0].dtype != np.int16  # the native kernel takes whole numbers
    if backend == "torch" or (backend == "auto" and (fractional or native_module() is None)):
        from .resize_torch import resize_batch  # imports PyTorch, without which the native kernel does

        results = resize_batch([planes], resize, requantize=requantize, dtype=dtype)
        return results[0][0].numpy(), results[1][0].numpy()
    luma, chroma = (np.empty((*grid, depth), dtype) for grid, depth in zip(resize.grids(), (64, 128)))
    native = native_module()
    targets = native_targets(luma, chroma, resize, planes.image_size, planes.sampling, requantize, planes.orientation)
    for plane, target in zip(planes.coefficients, targets):
        native.resize_plane(plane, target)
    if len(planes.coefficients) == 1:
        fill_gray_chroma(chroma, resize, requantize)
    return luma, chroma


def native_targets(luma, chroma, resize, image_size, sampling, requantize, orientation: int = 1) -> list:
    """The native kernel's description of each component's way into (a part of) the buffers.

    `chroma` may be None.  `image_size` is the upright picture's.
    """
    target, transposed = native_module().Target, TURNS[orientation].transpose
    buffers = [luma] if chroma is None or len(sampling) == 1 else [luma, chroma[..., :64], chroma[..., 64:]]
    plans = _component_plans(resize, image_size, sampling, orientation)
    return [
        target(*each, -resize.dc_offset(c), resize.final_offset(c), resize.final_gain(c), transposed)
        for c, each in enumerate(zip(plans, buffers, component_steps(requantize)))
    ]


@lru_cache(maxsize=256)  # about 100 KB each for 640 x 480, and random crops never ask for one again
def _component_plans(resize: Resize, image_size, sampling, orientation) -> list[tuple]:
    """(of the stored rows, of the stored columns) for each component."""
    axes = component_axes(resize, image_size, sampling, orientation)
    if TURNS[orientation].transpose:
        axes = tuple((horizontal, vertical) for vertical, horizontal in axes)
    return [(_axis_plan(rows, False), _axis_plan(columns, True)) for rows, columns in axes]


@lru_cache(maxsize=512)
def _axis_plan(axis: Axis, even: bool):
    """The matrix in the native kernel's form: about 40 KB for 640 pixels."""
    return native_module().AxisPlan(axis, even)


def fill_gray_chroma(chroma: np.ndarray, resize: Resize, requantize: Quality) -> None:
    """Writes what no colour looks like in the buffer of a grayscale file: zeros, around which there may be a fill."""
    chroma[...] = 0
    if resize.place is None or resize.fill[1:] == (128.0, 128.0):
        return
    # As if the file had colour planes of zeros; one pixel stands for all of them.
    zeros = Planes((np.zeros((1, 1, 64), np.int16),) * 3, (1, 1), ((1, 1),) * 3, np.ones((3, 64), np.uint16))
    plain = Resize(resize.size, place=resize.place, fill=resize.fill, gain=resize.gain)
    chroma[...] = resize_planes(zeros, plain, requantize=requantize, dtype=str(chroma.dtype))[1]
