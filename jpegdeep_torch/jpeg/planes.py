"""What a JPEG file holds: the dequantised DCT coefficients of each component."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Planes:
    """The coefficients of one JPEG, as its encoder left them.

    coefficients: one int16 array (block rows, block columns, 64) per component (Y; or Y, Cb, Cr), dequantised, the 64
        frequencies of a block in natural (row-major) order: index 8 * vertical + horizontal.  Only real blocks:
        ceil(component size / 8) each way, where a component's size is ceil(image size * own sampling / largest
        sampling).  The blocks by which an encoder fills up its last MCUs are left out, as jpeg2dct leaves them out.
        The frame is the stored one.  Of an RGB file they are float32, made to YCbCr.
    image_size: (height, width) in pixels, of the upright picture.
    sampling: (horizontal, vertical) sampling factor of each component, as stored; ((2, 2), (1, 1), (1, 1)) is 4:2:0.
    quantization: uint16 (components, 64), the step of each frequency in natural order; 1 where there is none.
    orientation: 1..8, how the stored picture is turned to the upright one (EXIF); what resizes planes turns them.
    """

    coefficients: tuple[np.ndarray, ...]
    image_size: tuple[int, int]
    sampling: tuple[tuple[int, int], ...]
    quantization: np.ndarray
    orientation: int = 1
