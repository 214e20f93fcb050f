"""What is drawn at random about a training image: the SSD recipe's ranges as plain fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ...errors import ConfigError
from ...utils.settings import check_limits, setting

LIBRARIES = ("opencv", "torchvision")


def _probability(default: float) -> Any:
    return setting(default, low=0.0, high=1.0)


@dataclass(frozen=True)
class AugmentationConfig:
    """The defaults are the SSD recipe (Liu et al. 2016, section 2.2, 'Data augmentation', with the photometric ranges
    of the authors' Caffe code, which the reference shares).

    Detectors take everything but the last two fields; classifiers take those two, `flip_probability` and nothing else.

    enabled: False gives what inference sees: the image resized, nothing drawn.
    pixels: who changes pixels: 'opencv', by the same draws as coefficients are changed by, or 'torchvision', whose
        transforms v2 draw for themselves (brightness is a factor there, contrast about the image's mean, and
        `random_interpolation` among nearest, bilinear and bicubic).  Coefficients know the first alone.
    brightness: the largest shift either way, of 255.
    contrast, saturation: (least, most) factor, about mid-grey and about the pixel's luma.
    hue_deg: the largest turn either way, in degrees of the colour circle.
    expand_max_ratio: the image is put anywhere on a canvas of 1 to so many times its sides, filled with
        `expand_fill_rgb` (ImageNet's mean colour).
    iou_crop: cut out a part whose overlap (IoU) with an object is at least one of `iou_crop_overlaps`, drawn evenly;
        1 or more stands for no crop and must be among them.  Each side is `iou_crop_scale` of the canvas's, the ratio
        of width to height within `iou_crop_aspect`; after `iou_crop_trials` failures another overlap is drawn.
        Objects whose centre is outside go; the others are clipped.
    random_interpolation: pixels are resized by OpenCV's nearest, linear, cubic, area or Lanczos; in the DCT domain
        'area' stands for the antialiased bilinear and all others for the plain one.
    min_box_px: objects narrower or lower than this in pixels of the network's input are left out.
    crop_scale, crop_ratio: share of the area, and width to height, of a classifier's random crop.

    ConfigError lists what is wrong between fields and within their ranges.
    """

    enabled: bool = True
    pixels: str = setting("opencv", choices=LIBRARIES)
    brightness: float = setting(32.0, low=0.0, high=255.0)
    brightness_probability: float = _probability(0.5)
    contrast: tuple[float, float] = setting((0.5, 1.5), above=0.0)
    contrast_probability: float = _probability(0.5)
    saturation: tuple[float, float] = setting((0.5, 1.5), above=0.0)
    saturation_probability: float = _probability(0.5)
    hue_deg: float = setting(18.0, low=0.0, high=180.0)
    hue_probability: float = _probability(0.5)
    expand_max_ratio: float = setting(4.0, low=1.0)
    expand_probability: float = _probability(0.5)
    expand_fill_rgb: tuple[float, float, float] = setting((123.0, 117.0, 104.0), low=0.0, high=255.0)
    iou_crop: bool = True
    iou_crop_overlaps: tuple[float, ...] = setting((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0), low=0.0)
    iou_crop_scale: tuple[float, float] = setting((0.3, 1.0), above=0.0, high=1.0)
    iou_crop_aspect: tuple[float, float] = setting((0.5, 2.0), above=0.0)
    iou_crop_trials: int = setting(40, low=1)
    flip_probability: float = _probability(0.5)
    random_interpolation: bool = True
    min_box_px: float = setting(1.0, low=0.0)
    crop_scale: tuple[float, float] = setting((0.08, 1.0), above=0.0, high=1.0)
    crop_ratio: tuple[float, float] = setting((3 / 4, 4 / 3), above=0.0)

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ConfigError("augmentation: " + "; ".join(problems))

    @classmethod
    def none(cls) -> AugmentationConfig:
        """Plain resizing, as at inference."""
        return cls(enabled=False)

    def problems(self) -> list[str]:
        """What is wrong, each entry beginning with the field's name."""
        found: list[str] = []
        for item in fields(self):
            check_limits(getattr(self, item.name), item.metadata, item.name, found)
        for name in ("contrast", "saturation", "iou_crop_scale", "iou_crop_aspect", "crop_scale", "crop_ratio"):
            least, most = getattr(self, name)
            if least > most:
                found.append(f"{name} is ({least:g}, {most:g}), expected the smaller one first")
        if not any(overlap >= 1 for overlap in self.iou_crop_overlaps):
            found.append("iou_crop_overlaps has none of 1 or more, expected one, for no crop: others may be impossible")
        return found
