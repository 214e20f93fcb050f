"""The same part of the same JPEG twice: coefficients for the twin, pixels for its teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import JpegError
from ..jpeg import Planes, Resize, read_planes, resize_planes, standard_tables
from ..jpeg.axes import DCT, axis_matrix
from ..jpeg.geometry import component_axes
from ..jpeg.native import native_module
from ..jpeg.orientation import TURNS

_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))  # from Y, Cb and Cr (JFIF 1.02)


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each picture.

    smallest: side of the smallest part, as a share of the picture's shorter side; sides are drawn evenly by their
        logarithm, up to the whole shorter side.
    qualities: of the tables that a picture's coefficients are rounded to first, as if a camera had written it so.
    requantized: share of the pictures that this is done to.
    antialiased: share of the pictures that are resized with antialiasing.
    """

    smallest: float = 0.4
    qualities: tuple[int, int] = (50, 95)
    requantized: float = 0.5
    antialiased: float = 0.25


@dataclass
class Pairs:
    """A batch: luma (N, 64, S/8, S/8) and chroma (N, 128, S/16, S/16) of pictures of S px, and pixels (N, 3, S, S).

    Floating point, channels last in memory.  Pixels are RGB of 0..255, of the same coefficients: the luma's are those
    of `luma`, the chroma's have the pixels' own grid, as decoded pictures do, where `chroma` has half of it.
    """

    luma: Tensor
    chroma: Tensor
    pixels: Tensor


def draw_resize(image_size: tuple[int, int], size: int, augmentation: Augmentation, rng: np.random.Generator) -> Resize:
    """A square part of a picture at random, on a canvas of `size` px, mirrored or not."""
    shorter = min(image_size)
    side = round(shorter * np.exp(rng.uniform(np.log(augmentation.smallest), 0)))
    side = min(shorter, max(1, side))
    top, left = (int(rng.integers(0, px - side + 1)) for px in image_size)
    return Resize(
        (size, size),
        antialias=bool(rng.random() < augmentation.antialiased),
        crop=(top, left, side, side),
        flip_horizontal=bool(rng.random() < 0.5),
    )


def middle_resize(image_size: tuple[int, int], size: int) -> Resize:
    """ImageNet's protocol: the middle square of 7/8 of the shorter side."""
    side = max(1, round(min(image_size) * 7 / 8))
    return Resize((size, size), crop=((image_size[0] - side) // 2, (image_size[1] - side) // 2, side, side))


def requantized(planes: Planes, quality: int) -> Planes:
    """The planes as an encoder of that quality would have left them: rounded to the steps of Pillow's tables."""
    tables = standard_tables(quality)
    rounded = [
        (np.rint(plane / tables[min(i, 1)]) * tables[min(i, 1)]).clip(-32767, 32767).astype(np.int16)
        for i, plane in enumerate(planes.coefficients)
    ]
    return dataclasses.replace(planes, coefficients=tuple(rounded))


def training_pairs(paths: Sequence[Path], size: int, augmentation: Augmentation, rng: np.random.Generator) -> Pairs:
    """One part of each picture, drawn at random.  Raises JpegError for a file that cannot be read."""
    items = []
    for path in paths:
        planes = _read(path)
        if rng.random() < augmentation.requantized:
            planes = requantized(planes, int(rng.integers(augmentation.qualities[0], augmentation.qualities[1] + 1)))
        items.append((planes, draw_resize(planes.image_size, size, augmentation, rng)))
    return make_pairs(items)


def middle_pairs(paths: Sequence[Path], size: int, quality: int | None = None) -> Pairs:
    """The middle of each picture; `quality`: requantised to it."""
    items = []
    for path in paths:
        planes = _read(path)
        items.append((
            planes if quality is None else requantized(planes, quality), middle_resize(planes.image_size, size)
        ))  # fmt: skip
    return make_pairs(items)


def _read(path: Path) -> Planes:
    try:
        return read_planes(path)
    except JpegError as error:
        raise JpegError(path, error.reason) from None


def make_pairs(items: Sequence[tuple[Planes, Resize]]) -> Pairs:
    """A batch of planes, each resized; all on a canvas of one size."""
    luma, chroma, fine = [], [], []
    for planes, resize in items:
        y, c = resize_planes(planes, resize)
        luma.append(torch.from_numpy(y))
        chroma.append(torch.from_numpy(c))
        fine.append(torch.from_numpy(_fine_chroma(planes, resize)))
    whole, half = torch.stack(luma).float(), torch.stack(chroma).float()
    pixels = to_pixels(torch.cat((whole, torch.stack(fine)), dim=3), items[0][1].size)
    return Pairs(whole.permute(0, 3, 1, 2), half.permute(0, 3, 1, 2), pixels)


def _fine_chroma(planes: Planes, resize: Resize) -> np.ndarray:
    """float32 (rows, columns, 128): Cb and Cr on the luma's grid."""
    rows, columns = resize.grids()[0]
    out = np.zeros((rows, columns, 128), np.float32)
    if len(planes.coefficients) < 3:
        return out
    axes = component_axes(resize, planes.image_size, planes.sampling, planes.orientation)
    native = native_module()
    transposed = TURNS[planes.orientation].transpose
    plans: dict[object, Any] = {}  # Cb and Cr share them
    for component in (1, 2):
        own = [dataclasses.replace(axis, halve=False) for axis in axes[component]]
        target, plane = out[..., 64 * (component - 1) : 64 * component], planes.coefficients[component]
        if native is not None and plane.dtype == np.int16:
            if axes[component] not in plans:
                rows_axis, columns_axis = reversed(own) if transposed else own
                plans[axes[component]] = native.AxisPlan(rows_axis, False), native.AxisPlan(columns_axis, True)
            native.resize_plane(plane, native.Target(plans[axes[component]], target, transposed=transposed))
        else:
            target[...] = _by_matrices(upright_plane(plane, planes.orientation), *map(axis_matrix, own))
    return out


def upright_plane(plane: np.ndarray, orientation: int) -> np.ndarray:
    """(rows, columns, 64), transposed where the upright picture is; mirrors are the axes' work."""
    if not TURNS[orientation].transpose:
        return plane
    rows, columns = plane.shape[:2]
    return plane.reshape(rows, columns, 8, 8).transpose(1, 0, 3, 2).reshape(columns, rows, 64)


def _by_matrices(plane: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """(rows, columns, 64) -> (rows, columns, 64) of another grid."""
    rows, columns = plane.shape[:2]
    spread = plane.reshape(rows, columns, 8, 8).transpose(0, 2, 1, 3).reshape(8 * rows, 8 * columns)
    result = vertical @ spread @ horizontal.T
    rows, columns = result.shape[0] // 8, result.shape[1] // 8
    return result.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(rows, columns, 64)


def to_pixels(coefficients: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, rows, columns, 192), Y, Cb and Cr on one grid -> RGB (N, 3, height, width), 0..255, channels last.

    The inverse DCT of JPEG (ITU-T T.81, A.3.3) and JFIF's colours, cut to the range, not rounded.
    """
    n, rows, columns = coefficients.shape[:3]
    matrix = torch.from_numpy(DCT).float()
    samples = coefficients.reshape(-1, 3, 64) @ torch.kron(matrix, matrix)  # both axes of a block at once
    rgb = (torch.tensor(_TO_RGB) @ samples).add_(128).clamp_(0, 255)
    pixels = rgb.view(n, rows, columns, 3, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(n, 8 * rows, 8 * columns, 3)
    return pixels[:, : size[0], : size[1]].permute(0, 3, 1, 2)
