"""The numbers that JPEG encoders work with: colours to YCbCr (JFIF 1.02), and tables to quantise by (T.81, Annex K)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Y, Cb and Cr from R, G and B, of 255.  In libjpeg's (jccolor.c) form: these digits are what it works from.
FROM_RGB = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))  # and back (jdcolor.c)

# Tables K.1 and K.2.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


Quality = int | None | tuple[int | None, int | None]  # of both tables, or of luma's and chroma's; None rounds nothing


@lru_cache(maxsize=128)
def standard_tables(quality: int) -> np.ndarray:
    """The steps that libjpeg, and so Pillow, uses at a quality of 1..100: float32 (2, 64), luma then chroma.

    Natural order.  libjpeg scales Annex K's tables by 5000 / quality percent below 50, by 200 - 2 * quality percent
    from there on, and keeps the steps within 1..255 (baseline).  ValueError for another quality.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"a JPEG quality is 1 to 100, not {quality}")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = np.array([_LUMA, _CHROMA]).reshape(2, 64)
    steps = np.clip((tables * percent + 50) // 100, 1, 255).astype(np.float32)
    steps.setflags(write=False)
    return steps


def component_steps(quality: Quality) -> list[np.ndarray | None]:
    """The steps of Y, Cb and Cr: float32 (64,) each, or None where nothing is rounded to steps.  ValueError."""
    luma, chroma = quality if isinstance(quality, tuple) else (quality, quality)
    return [None if q is None else standard_tables(q)[table] for q, table in ((luma, 0), (chroma, 1), (chroma, 1))]
