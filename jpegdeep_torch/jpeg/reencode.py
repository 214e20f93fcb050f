"""Coefficients as the reference gets them: pixels compressed again, and the new file's coefficients read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ..errors import JpegError


def encode_jpeg(pixels: np.ndarray, quality: int = 75) -> bytes:
    """(H, W, 3) uint8 RGB -> a 4:2:0 JPEG by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def jpeg_coefficients(data: bytes, name: object = "<bytes>") -> tuple[np.ndarray, np.ndarray]:
    """A 4:2:0 JPEG's coefficients by jpeg2dct: luma (H, W, 64), chroma (H', W', 128: Cb, then Cr), int16.

    Dequantised, natural (row-major) order.  Luma is padded with zero blocks to twice the chroma's count where that is
    larger, as the reference does.
    """
    try:
        import jpeg2dct.numpy
    except ImportError:
        raise JpegError(name, "jpeg2dct is not installed: pip install jpeg2dct-numpy (or jpeg2dct)") from None
    luma, cb, cr = jpeg2dct.numpy.loads(data)
    rows, columns = 2 * cb.shape[0], 2 * cb.shape[1]
    if luma.shape[:2] != (rows, columns):
        luma = np.pad(luma, ((0, max(0, rows - len(luma))), (0, max(0, columns - luma.shape[1])), (0, 0)))
    return luma, np.concatenate((cb, cr), axis=-1)


def reencode(pixels: np.ndarray, quality: int = 75, name: object = "<bytes>") -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) uint8 RGB -> luma and chroma coefficients, as `jpeg_coefficients` gives them."""
    return jpeg_coefficients(encode_jpeg(pixels, quality), name)
