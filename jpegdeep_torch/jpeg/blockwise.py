"""RGB pixels -> the coefficients that a JPEG of them would hold, without a JPEG: on tensors, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .axes import DCT
from .quantization import FROM_RGB, standard_tables


def blockwise_dct(pixels: Tensor, quality: int | None = None, *, chroma: bool = True) -> tuple[Tensor, ...]:
    """(N, 3, H, W) RGB of 255 -> luma (N, rows, columns, 64) and chroma (N, rows / 2, columns / 2, 128), Cb then Cr.

    float32, on the pixels' device; frequencies in natural order; chroma 4:2:0.  rows and columns are twice the
    chroma's: blocks of zeros stand where the luma has none, as in `jpeg.reencode.jpeg_coefficients`.
    quality: quantise with Pillow's tables of this quality and dequantise; None: leave the coefficients as they are.
    chroma: False makes luma alone.

    uint8 pixels are rounded where libjpeg's compressor rounds: YCbCr to whole numbers, averages of four (jcsample.c) up
    and down in turns.  With a quality the result is then that of `reencode` but for the rounding within libjpeg's
    integer DCT.  Floating-point pixels are rounded nowhere but in quantisation, and not clamped.
    The DCT is a float32 matrix product, which TF32 must not shorten (PyTorch's default).
    """
    exact = not pixels.is_floating_point()
    with torch.autocast(pixels.device.type, enabled=False):
        planes = _ycbcr(pixels.float(), count=3 if chroma else 1)
        if exact:
            planes = planes.round()
        height, width = planes.shape[-2:]
        blocks = [_coefficients(_fill_blocks(planes[:, 0], 8))]
        for plane in planes.unbind(1)[1:]:
            blocks.append(_coefficients(_fill_blocks(_halve(plane, exact), 8)))
        if quality is not None:
            tables = torch.from_numpy(standard_tables(quality).copy()).to(pixels.device)
            blocks = [_quantise(plane, tables[min(i, 1)]) for i, plane in enumerate(blocks)]
    rows, columns = (2 * -(-px // 16) for px in (height, width))
    luma = F.pad(blocks[0], (0, 0, 0, columns - blocks[0].shape[2], 0, rows - blocks[0].shape[1]))
    return (luma, torch.cat(blocks[1:], dim=-1)) if chroma else (luma,)


def _ycbcr(pixels: Tensor, count: int) -> Tensor:
    """(N, count, H, W): the first `count` of Y - 128, Cb - 128, Cr - 128."""
    red, green, blue = pixels.unbind(1)
    planes = [r * red + g * green + b * blue for r, g, b in FROM_RGB[:count]]
    planes[0] = planes[0] - 128
    return torch.stack(planes, dim=1)


def _halve(plane: Tensor, exact: bool) -> Tensor:
    """(N, H, W) -> (N, ceil(H / 2), columns): means of 2 x 2.

    The last pixel of a row is repeated up to a whole block of means; the last row, where there is an odd one out.
    """
    height, width = plane.shape[1:]
    plane = _repeat_edges(plane, height % 2, -width % 16)
    four = plane.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum(dim=(2, 4))
    if not exact:
        return four / 4
    bias = torch.arange(four.shape[2], device=plane.device) % 2 + 1  # 1, 2, 1, 2, ...
    return ((four + bias) / 4).floor()


def _repeat_edges(plane: Tensor, down: int, across: int) -> Tensor:
    return F.pad(plane[:, None], (0, across, 0, down), mode="replicate")[:, 0] if down or across else plane


def _fill_blocks(plane: Tensor, side: int) -> Tensor:
    return _repeat_edges(plane, -plane.shape[1] % side, -plane.shape[2] % side)


def _coefficients(plane: Tensor) -> Tensor:
    """(N, 8 * rows, 8 * columns) -> (N, rows, columns, 64)."""
    blocks = plane.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3)
    matrix = torch.from_numpy(DCT).to(plane.device, torch.float32)
    return (matrix @ blocks @ matrix.T).flatten(3)


def _quantise(coefficients: Tensor, steps: Tensor) -> Tensor:
    """To multiples of the steps; half a step goes away from zero, as in jcdctmgr.c."""
    return (coefficients.abs() / steps + 0.5).floor() * steps * coefficients.sign()
