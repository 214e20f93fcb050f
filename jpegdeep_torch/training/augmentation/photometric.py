"""Brightness, contrast, saturation and hue, of coefficients and of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ...jpeg import Resize
from ...jpeg.native import native_module
from ...jpeg.quantization import component_steps
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
    def gain(self) -> tuple[float, float]:
        """What luma and chroma are multiplied by about 128."""
        return self.contrast, self.contrast * self.saturation

    def before_turning(self, resize: Resize, fill_rgb: tuple[float, float, float]) -> Resize:
        """The resize with brightness, contrast and saturation, which are operations on coefficients.

        The DCT is linear and JPEG's samples are less 128 before it (ITU-T T.81, A.3.1), so a factor about 128 is one
        of all coefficients, and what is added to the samples is added 8 times to the DC alone (A.3.3; Smith and Rowe
        1993, 'Algorithms for manipulating compressed images').  Saturation blends a pixel with its luma (Haeberli
        1993, 'Matrix operations for image processing'; Pillow's and torchvision's adjust_saturation), which in YCbCr
        is a factor of Cb and Cr.  Nothing is clamped to 0..255, as pixels are.
        Around the image the colour is put that all of this, and the turn of the hue, make `fill_rgb` of.
        """
        fill = resize.fill if resize.place is None else self._colour_before(fill_rgb)
        return replace(resize, fill=fill, luma_shift=self.brightness, gain=self.gain)

    def turn(self, chroma: np.ndarray, quality: int | None, out: np.ndarray) -> None:
        """The hue: (rows, columns, 128) float32 coefficients, Cb then Cr, are turned in the CbCr plane, and rounded to
        steps of Pillow's table of `quality` (None: to whole numbers) into `out`, int16.

        That is linear and keeps Y.  It is NOT the hue of HSV, which moves along a hexagon, keeps the largest of R, G
        and B in place of Y, and is not linear.
        """
        steps, native = component_steps(quality)[1], native_module()
        if native is not None:
            native.turn_chroma(chroma, self.hue_deg, steps, out)
        else:
            turn_chroma(chroma, self.hue_deg, steps, out)

    def _colour_before(self, fill_rgb: tuple[float, float, float]) -> tuple[float, float, float]:
        """The colour (Y, Cb, Cr) that becomes `fill_rgb`; it may lie outside 0..255."""
        luma, *chroma = ycbcr(fill_rgb) - 128
        angle = math.radians(self.hue_deg)
        back = complex(*chroma) * complex(math.cos(angle), -math.sin(angle)) / self.gain[1]
        return float(luma / self.gain[0] + 128 - self.brightness), back.real + 128, back.imag + 128

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


def turn_chroma(chroma: np.ndarray, hue_deg: float, steps: np.ndarray | None, out: np.ndarray) -> None:
    """What the native module's function of this name does, where it was not built."""
    cosine, sine = (np.float32(f(math.radians(hue_deg))) for f in (math.cos, math.sin))
    cb, cr = chroma[..., :64], chroma[..., 64:]
    for i, turned in enumerate((cosine * cb - sine * cr, cosine * cr + sine * cb)):
        if steps is not None:
            turned = np.rint(turned / steps) * steps
        out[..., 64 * i : 64 * i + 64] = np.rint(turned).clip(-32767, 32767)
