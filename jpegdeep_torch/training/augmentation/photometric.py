"""Brightness, contrast, saturation and hue, of coefficients and of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ...jpeg import standard_tables
from .config import AugmentationConfig

# Of R, G and B: ITU-R BT.601, as JFIF 1.02 has it.
LUMA_WEIGHTS = np.array((0.299, 0.587, 0.114))


@dataclass(frozen=True)
class Photometric:
    """What becomes of an image's colours: in this order, but for the contrast.

    brightness: added, of 255.  contrast: factor about 128, taken last where `contrast_last`, else after brightness.
    saturation: factor of the distance from the pixel's luma.  hue_deg: turn of the colour circle, red towards yellow.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_deg: float = 0.0
    contrast_last: bool = False

    @property
    def changes_nothing(self) -> bool:
        return (self.brightness, self.contrast, self.saturation, self.hue_deg) == (0.0, 1.0, 1.0, 0.0)

    def chroma_matrix(self) -> np.ndarray:
        """float64 (2, 2): (Cb - 128, Cr - 128) after from before.

        Saturation blends a pixel with its luma (Haeberli 1993, 'Matrix operations for image processing'; PIL's and
        torchvision's adjust_saturation), which in YCbCr scales the chroma and leaves Y; contrast scales it with Y.
        The hue is turned in the CbCr plane, which keeps Y and is linear.  It is NOT the hue of HSV, which moves along a
        hexagon, keeps the largest of R, G and B in place of Y, and is not linear.
        """
        angle, scale = math.radians(self.hue_deg), self.contrast * self.saturation
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        return np.array(((cosine, -sine), (sine, cosine)))

    def colour_before(self, ycbcr: np.ndarray) -> tuple[float, float, float]:
        """The colour (Y, Cb, Cr) that this turns into `ycbcr`; it may lie outside 0..255."""
        luma = (ycbcr[0] - 128) / self.contrast + 128 - self.brightness
        cb, cr = np.linalg.solve(self.chroma_matrix(), np.asarray(ycbcr[1:]) - 128) + 128
        return float(luma), float(cb), float(cr)

    def change_coefficients(self, luma: np.ndarray, chroma: np.ndarray | None) -> None:
        """In place: float32 luma (rows, columns, 64) and chroma (rows, columns, 128), Cb then Cr, dequantised.

        The DCT is linear and JPEG's samples are less 128 before it (ITU-T T.81, A.3.1), so a factor about 128 is one
        of all coefficients, and what is added to the samples is added 8 times to the DC alone (A.3.3; Smith and Rowe
        1993, 'Algorithms for manipulating compressed images').  Nothing is clamped to 0..255, as pixels are.
        """
        if self.contrast != 1:
            luma *= np.float32(self.contrast)
        if self.brightness:
            luma[..., 0] += np.float32(8 * self.contrast * self.brightness)
        if chroma is None:
            return
        matrix = self.chroma_matrix().astype(np.float32)
        if not self.hue_deg:
            if matrix[0, 0] != 1:
                chroma *= matrix[0, 0]
            return
        cb, cr = chroma[..., :64].copy(), chroma[..., 64:].copy()
        chroma[..., :64] = matrix[0, 0] * cb + matrix[0, 1] * cr
        chroma[..., 64:] = matrix[1, 0] * cb + matrix[1, 1] * cr

    def change_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> the same, clamped and rounded after each step.

        The hue is that of HSV, in steps of 360 / 256 degrees.  OpenCV's kernels, as the reference's code uses, take a
        fifteenth of the time of torchvision's v2.functional.adjust_saturation and adjust_hue, which these follow.
        """
        contrast = self.contrast, 0.0
        first, last = ((1.0, 0.0), contrast) if self.contrast_last else (contrast, (1.0, 0.0))
        pixels = _look_up(pixels, self.brightness, first[0])
        if self.saturation != 1:
            blend = self.saturation * np.eye(3) + (1 - self.saturation) * LUMA_WEIGHTS
            pixels = cv2.transform(pixels, blend.astype(np.float32))
        if self.hue_deg:
            pixels = _turn_hue(pixels, self.hue_deg)
        return _look_up(pixels, 0.0, last[0])


def _look_up(pixels: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    if brightness == 0 and contrast == 1:
        return pixels
    values = np.clip(np.arange(256) + brightness, 0, 255)
    values = np.clip(128 + contrast * (values - 128), 0, 255)
    return cv2.LUT(pixels, np.rint(values).astype(np.uint8))


def _turn_hue(pixels: np.ndarray, degrees: float) -> np.ndarray:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255: it wraps as bytes do
    hsv[..., 0] += np.uint8(round(degrees * 256 / 360) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def draw_photometric(config: AugmentationConfig, random: np.random.Generator) -> Photometric:
    """Each with its own probability, evenly within its range; the contrast first or last, evenly."""

    def drawn(probability: float, least: float, most: float, otherwise: float) -> float:
        value = random.uniform(least, most)  # always drawn, so that one probability does not shift all other draws
        return value if random.random() < probability else otherwise

    return Photometric(
        brightness=drawn(config.brightness_probability, -config.brightness, config.brightness, 0.0),
        contrast=drawn(config.contrast_probability, *config.contrast, 1.0),
        saturation=drawn(config.saturation_probability, *config.saturation, 1.0),
        hue_deg=drawn(config.hue_probability, -config.hue_deg, config.hue_deg, 0.0),
        contrast_last=random.random() < 0.5,
    )


def ycbcr(rgb: tuple[float, float, float]) -> np.ndarray:
    """float64 (3,): Y, Cb and Cr, 0..255, of a colour (JFIF 1.02)."""
    red, _, blue = rgb
    luma = float(LUMA_WEIGHTS @ np.asarray(rgb, dtype=np.float64))
    return np.array((luma, (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128))


def round_coefficients(values: np.ndarray, quality: int | None, tables: tuple[int, ...], out: np.ndarray) -> None:
    """float32 (rows, columns, 64 * len(tables)) -> int16 `out`, each rounded to a multiple of its step.

    quality: of Pillow's tables (None: steps of 1); tables: which of them for each 64 frequencies (0 luma, 1 chroma).
    Changes `values`.
    """
    if quality is None:
        np.rint(values, out=values)
    else:
        steps = standard_tables(quality)[list(tables)].reshape(-1)
        values *= 1 / steps
        np.rint(values, out=values)
        values *= steps
    np.clip(values, -32767, 32767, out=values)
    out[...] = values
