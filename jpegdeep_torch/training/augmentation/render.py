"""What was drawn, carried out: on decoded pixels, or on a JPEG's coefficients."""

from __future__ import annotations

import cv2
import numpy as np

from ...errors import JpegError
from ...jpeg import ReadOptions, read_dct
from ...jpeg.options import DEFAULT_OPTIONS
from ...jpeg.quantization import Quality
from .geometry import Geometry
from .photometric import Photometric

RGB = tuple[float, float, float]

_CV2 = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def render_pixels(
    pixels: np.ndarray, geometry: Geometry, photometric: Photometric, fill_rgb: RGB, out: np.ndarray
) -> None:
    """(H, W, 3) uint8 RGB -> `out` (S, S, 3).

    Colours are changed after resizing: there are fewer pixels then, and interpolation and linear changes can be
    exchanged.  What is around the image keeps its colour.
    """
    top, left, height, width = geometry.crop
    place_top, place_left, place_height, place_width = geometry.place
    part = pixels[top : top + height, left : left + width]
    part = cv2.resize(part, (place_width, place_height), interpolation=_CV2[geometry.interpolation])
    if geometry.flip:
        part = cv2.flip(part, 1)
    if not geometry.covers:
        out[...] = np.tile(np.rint(fill_rgb).astype(np.uint8), (geometry.size, 1))  # by rows: three by three is slow
    out[place_top : place_top + place_height, place_left : place_left + place_width] = photometric.change_pixels(part)


def render_coefficients(
    data: bytes,
    name: object,
    geometry: Geometry,
    photometric: Photometric,
    fill_rgb: RGB,
    out: tuple[np.ndarray, ...],
    *,
    requantize: int | None = None,
    antialias: bool = False,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> None:
    """A JPEG's bytes -> luma (rows, columns, 64) and, where `out` has it, chroma (rows, columns, 128), int16.

    One resize does everything but turn the hue: colours are changed after resizing, in float32, and the results rounded
    to steps of Pillow's tables of quality `requantize` (None: to whole numbers).  What is around the image keeps its
    colour.

    Raises:
        UnsupportedCoding, JpegError: as `read_dct`, naming `name`.
    """
    resize = photometric.before_turning(geometry.resize(antialias), fill_rgb)
    luma, chroma = out[0], out[1] if len(out) > 1 else None
    target: np.ndarray | None = chroma
    quality: Quality = requantize
    if chroma is not None and photometric.hue_deg:
        target, quality = np.empty(chroma.shape, np.float32), (requantize, None)
    try:
        read_dct(
            data, resize=resize, requantize=quality, out=(luma, target), chroma=chroma is not None, options=options
        )
    except JpegError as error:
        raise type(error)(name, error.reason) from None
    if chroma is not None and target is not None and target is not chroma:
        photometric.turn(target, requantize, chroma)
