"""Pixels from coefficients in PyTorch: any device, and batches of files of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .axes import DCT, Axis, sample_matrix
from .geometry import Resize, component_axes
from .pixel_input import colour_matrix
from .planes import Planes
from .resize_torch import plane_on_device, resize_axes

_GRAY = Planes((np.zeros((1, 1, 64), np.int16),), (1, 1), ((1, 1),), np.ones((1, 64), np.uint16))


def pixels_batch(
    batch: Sequence[Planes],
    resize: Resize | Sequence[Resize],
    *,
    device: torch.device | str = "cpu",
    dtype: str = "uint8",
) -> Tensor:
    """RGB pixels of a batch, (N, 3, height, width) on `device`, channels last in memory.

    `read_rgb` of files that have been read as coefficients, so that the device does all but the entropy decoding.  The
    files may differ in size and sampling, and `resize` may be one for all or one for each (`fit_image` makes them), as
    long as their canvases are of one size.  int16 coefficients are moved to the device and padded there to the largest
    file; both stages are batched matrix products in float32, which TF32 must not shorten
    (torch.backends.cuda.matmul.allow_tf32 is False by default).

    Args:
        batch: `read_planes` of each file.
        resize: what becomes of them.
        device: where the result is.
        dtype: 'uint8', or 'float32', of 255 too, not rounded.

    Raises:
        ValueError: canvases of different sizes, as many resizings as there are no files, or a crop outside an image.
    """
    resizes = [resize] * len(batch) if isinstance(resize, Resize) else list(resize)
    if len({each.size for each in resizes}) != 1 or len(resizes) != len(batch):
        raise ValueError("a batch needs one canvas size, and one resize in all or one per file")
    if dtype not in ("uint8", "float32"):
        raise ValueError(f"dtype is 'uint8' or 'float32', not {dtype!r}")
    device = torch.device(device)
    components = [_component(batch, resizes, c, device) for c in range(3)]
    pixels = torch.stack(components, dim=-1)  # (N, height, width, 3): Y, Cb and Cr about 0
    colours = [colour_matrix(each, "ycbcr", False) for each in resizes]
    matrices, offsets = (torch.tensor(np.stack(part), dtype=torch.float32, device=device) for part in zip(*colours))
    pixels = pixels @ matrices.mT[:, None] + offsets[:, None, None]
    pixels = pixels.clamp_(0, 255)
    if dtype == "uint8":
        pixels = pixels.round_().to(torch.uint8)
    return pixels.permute(0, 3, 1, 2)


def _component(batch: Sequence[Planes], resizes: Sequence[Resize], component: int, device: torch.device) -> Tensor:
    """Float32 (N, height, width): one component of all of them, zero in the middle.

    Zero stands for the fill while it is resized.
    """
    planes, axes = [], []
    for each, resize in zip(batch, resizes):
        gray = component > 0 and len(each.coefficients) == 1
        geometry = Resize(resize.size, place=resize.place) if gray else resize  # a crop is not of its one pixel
        source, index = (_GRAY, 0) if gray else (each, component)
        planes.append(plane_on_device(source, index, device))
        axes.append(
            component_axes(geometry, source.image_size, source.sampling, source.orientation, to_pixels=True)[index]
        )
    offsets = torch.tensor([resize.dc_offset(component) for resize in resizes], device=device)
    return resize_axes(planes, axes, offsets, _pixel_tensor) + offsets[:, None, None] / 8


@lru_cache(maxsize=64)  # dense, as those of resize_torch
def _pixel_tensor(axis: Axis, device: torch.device) -> Tensor:
    """(canvas pixels, 8 * input blocks): S T_in^T."""
    samples = sample_matrix(axis)
    matrix = (samples.reshape(-1, 8) @ DCT.T).reshape(samples.shape)
    return torch.from_numpy(matrix).to(device, torch.float32)
