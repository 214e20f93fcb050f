"""The same resizing in PyTorch: any device, and batches of files of different sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

from .axes import Axis, axis_matrix
from .geometry import Resize, component_axes
from .orientation import TURNS
from .planes import Planes
from .quantization import Quality, component_steps

Pairs = list[tuple[Axis, Axis]]


def resize_batch(
    batch: Sequence[Planes],
    resize: Resize | Sequence[Resize],
    *,
    device: torch.device | str = "cpu",
    requantize: Quality = None,
    dtype: str = "int16",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resizes a batch: luma (N, rows, columns, 64) and chroma (N, rows, columns, 128) on `device`, Cb then Cr.

    The files may differ in size and sampling, and `resize` may be one for all or one for each (crops and flips drawn at
    random), as long as their canvases are of one size.  int16 coefficients are moved to the device and padded there to
    the largest file; both stages are batched matrix products in float32, which TF32 must not shorten
    (torch.backends.cuda.matmul.allow_tf32 is False by default).
    requantize and dtype are those of `resize_planes`, whose results these are but for float32's rounding.
    """
    resizes = [resize] * len(batch) if isinstance(resize, Resize) else list(resize)
    if len({each.size for each in resizes}) != 1 or len(resizes) != len(batch):
        raise ValueError("a batch needs one canvas size, and one resize in all or one per file")
    device = torch.device(device)
    luma_grid, chroma_grid = resizes[0].grids()
    axes = [
        component_axes(each, planes.image_size, planes.sampling, planes.orientation)
        for planes, each in zip(batch, resizes)
    ]
    everyone, coloured = range(len(batch)), [i for i, planes in enumerate(batch) if len(planes.coefficients) == 3]
    outputs = [torch.zeros(len(batch), *grid, 64, device=device) for grid in (luma_grid, chroma_grid, chroma_grid)]
    for component, (output, members) in enumerate(zip(outputs, (everyone, coloured, coloured))):
        if members:
            planes = [plane_on_device(batch[i], component, device) for i in members]
            pairs, own = [axes[i][component] for i in members], [resizes[i] for i in members]
            output[list(members)] = _resize_component(planes, pairs, own, component)
    for i in set(everyone) - set(coloured):
        _fill_gray(outputs[1:], i, resizes[i])
    for output, steps in zip(outputs, component_steps(requantize)):
        if steps is not None:
            on_device = torch.tensor(steps, device=device)
            output.div_(on_device).round_().mul_(on_device)
    luma, chroma = outputs[0], torch.cat(outputs[1:], dim=-1)
    if dtype == "int16":
        luma, chroma = (x.round().clamp(-32767, 32767).to(torch.int16) for x in (luma, chroma))
    return luma, chroma


def plane_on_device(planes: Planes, component: int, device: torch.device) -> torch.Tensor:
    """(rows, columns, 64) on the device, transposed where the upright picture is; mirrors are the axes' work."""
    plane = torch.from_numpy(planes.coefficients[component]).to(device)
    if TURNS[planes.orientation].transpose:
        plane = plane.unflatten(2, (8, 8)).permute(1, 0, 3, 2).flatten(2)
    return plane


def _resize_component(
    planes: list[torch.Tensor], axes: Pairs, resizes: Sequence[Resize], component: int
) -> torch.Tensor:
    """Float32 (N, rows, columns, 64) from N planes (their rows, their columns, 64)."""
    device = planes[0].device
    offsets = torch.tensor([resize.dc_offset(component) for resize in resizes], device=device)
    last = torch.tensor([(r.final_offset(component), r.final_gain(component)) for r in resizes], device=device)
    result = resize_axes(planes, axes, offsets, _axis_tensor)
    result = result.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).permute(0, 1, 3, 2, 4).flatten(3)
    result[..., 0] += last[:, 0, None, None]
    return result * last[:, 1, None, None, None]


def resize_axes(
    planes: list[torch.Tensor], axes: Pairs, offsets: torch.Tensor, matrix: Callable[[Axis, torch.device], torch.Tensor]
) -> torch.Tensor:
    """Float32 (N, output rows, output columns): `matrix` of each plane's axes, down and across, times the planes.

    offsets: (N,), taken off each plane's DCs before.
    """
    device = planes[0].device
    rows, columns = (max(plane.shape[i] for plane in planes) for i in (0, 1))
    padded = torch.zeros(len(planes), rows, columns, 64, device=device)
    for slot, plane, offset in zip(padded, planes, offsets):
        slot[: plane.shape[0], : plane.shape[1]] = plane
        slot[: plane.shape[0], : plane.shape[1], 0] -= offset
    # (N, 8 * rows, 8 * columns): frequencies beside their block's, so that an axis is one matrix product.
    spread = padded.view(-1, rows, columns, 8, 8).permute(0, 1, 3, 2, 4).reshape(-1, 8 * rows, 8 * columns)
    vertical = _stack([matrix(pair[0], device) for pair in axes], 8 * rows, device)
    horizontal = _stack([matrix(pair[1], device) for pair in axes], 8 * columns, device)
    return vertical @ (spread @ horizontal.mT)


def _stack(matrices: list[torch.Tensor], width: int, device: torch.device) -> torch.Tensor:
    """One (N or 1, output rows, width), zero where a file is smaller than the largest."""
    if len({id(matrix) for matrix in matrices}) == 1:
        matrices = matrices[:1]
    stacked = torch.zeros(len(matrices), matrices[0].shape[0], width, device=device)
    for slot, matrix in zip(stacked, matrices):
        slot[:, : matrix.shape[1]] = matrix
    return stacked


def _fill_gray(chroma: list[torch.Tensor], index: int, resize: Resize) -> None:
    """A grayscale file has no colour; around it there may be a fill that has."""
    if resize.place is None:
        return
    axes = component_axes(Resize(resize.size, place=resize.place), (1, 1), ((1, 1),) * 3)
    for component, output in enumerate(chroma, start=1):
        zero = torch.zeros(1, 1, 64, device=output.device)
        output[index] = _resize_component([zero], [axes[component]], [resize], component)[0]


@lru_cache(maxsize=64)  # dense, so up to 5 MB each for 4000 pixels
def _axis_tensor(axis: Axis, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(axis_matrix(axis)).to(device, torch.float32)
