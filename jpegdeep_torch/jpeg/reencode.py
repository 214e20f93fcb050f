"""Coefficients as the reference gets them: pixels compressed again, and the new file's coefficients read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .options import ReadOptions
from .reader import read_planes

_STORED = ReadOptions(orientation="stored")


def encode_jpeg(pixels: np.ndarray, quality: int = 75) -> bytes:
    """(H, W, 3) uint8 RGB -> a 4:2:0 JPEG by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def jpeg_coefficients(data: bytes, name: object = "<bytes>", reader: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """A 4:2:0 JPEG's coefficients: luma (H, W, 64), chroma (H', W', 128: Cb, then Cr), int16.

    Dequantised, natural (row-major) order.  Luma is padded with zero blocks to twice the chroma's count where that is
    larger, as the reference does.  `reader`: as of `read_planes`; all give the same.
    """
    luma, cb, cr = read_planes(data, reader=reader, options=_STORED).coefficients
    rows, columns = 2 * cb.shape[0], 2 * cb.shape[1]
    if luma.shape[:2] != (rows, columns):
        luma = np.pad(luma, ((0, max(0, rows - len(luma))), (0, max(0, columns - luma.shape[1])), (0, 0)))
    return luma, np.concatenate((cb, cr), axis=-1)


def reencode(
    pixels: np.ndarray, quality: int = 75, name: object = "<bytes>", reader: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) uint8 RGB -> luma and chroma coefficients, as `jpeg_coefficients` gives them."""
    return jpeg_coefficients(encode_jpeg(pixels, quality), name, reader)
