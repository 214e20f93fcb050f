"""What becomes of an image on its way to a network, and what each axis of each component makes of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import JpegError
from .axes import FILTERS, Axis
from .orientation import TURNS, upright_size
from .quantization import FROM_RGB


@dataclass(frozen=True)
class Resize:
    """What becomes of an image on its way to the network.  Lengths in pixels of the image, or of the canvas.

    size: (height, width) of the canvas: what the network sees.
    antialias: False samples bilinearly between the two nearest pixels, as the reference does (cv2's INTER_LINEAR);
        True averages over what a shrunken pixel covers, as Pillow's and torchvision's antialiased bilinear do.  Other
        interpolations always do.
    crop: (top, left, height, width) of the part of the image that is used; None: all of it.
    flip_horizontal, flip_vertical: mirror that part.
    place: (top, left, height, width) on the canvas that it is resized to; None: the whole canvas.  For pixels, it may
        reach beyond the canvas, and is cut off there.
    fill: Y, Cb and Cr, of 255, of the canvas around it, before shift and gain; mid-grey by default.
    luma_shift: added to Y, of 255, everywhere; gain: what Y, and what Cb and Cr, are then multiplied by, about 128.
        Coefficients are neither clamped nor rounded between the two and the resizing.
    interpolation: 'bilinear', or Pillow's 'bicubic', 'lanczos' or 'box'.
    """

    size: tuple[int, int] = (300, 300)
    antialias: bool = False
    crop: tuple[int, int, int, int] | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False
    place: tuple[int, int, int, int] | None = None
    fill: tuple[float, float, float] = (128.0, 128.0, 128.0)
    luma_shift: float = 0.0
    gain: tuple[float, float] = (1.0, 1.0)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown interpolation."""
        if self.interpolation not in FILTERS:
            raise ValueError(f"interpolation is one of {', '.join(map(repr, FILTERS))}, not {self.interpolation!r}")

    @property
    def filter(self) -> str:
        """The resampler's name in `axes`."""
        return self.interpolation if self.antialias or self.interpolation != "bilinear" else "two-nearest"

    def grids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(rows, columns) of luma blocks, and of chroma blocks: 4:2:0, (38, 38) and (19, 19) for 300 x 300."""
        height, width = self.size
        return (-(-height // 8), -(-width // 8)), (-(-height // 16), -(-width // 16))

    def dc_offset(self, component: int) -> float:
        """The DC of a block filled with the component's `fill`, which zero stands for while it is resized."""
        return 8.0 * (self.fill[component] - 128.0)

    def final_offset(self, component: int) -> float:
        """What is added to each DC in the end: that, and the shift."""
        return self.dc_offset(component) + (8.0 * self.luma_shift if component == 0 else 0.0)

    def final_gain(self, component: int) -> float:
        """What is multiplied by after that."""
        return self.gain[min(component, 1)]


def component_axes(
    resize: Resize,
    image_size: tuple[int, int],
    sampling: tuple[tuple[int, int], ...],
    orientation: int = 1,
    *,
    to_pixels: bool = False,
) -> tuple[tuple[Axis, Axis], ...]:
    """The upright picture's (vertical, horizontal) axes, of each component of such a file.

    Where the orientation transposes, the vertical axis begins at the stored picture's columns, the horizontal one at
    its rows.

    Args:
        resize: in pixels of the upright picture.
        image_size: (height, width) of the upright picture.
        sampling: each component's factors, as stored.
        orientation: 1..8, from the stored picture to the upright one.
        to_pixels: every component gets the whole canvas, for pixels; else chroma gets half of it, for coefficients.

    Raises:
        ValueError: a crop or a place that does not lie within the image or the canvas.
        JpegError: sampling factors whose ratio is not a whole number, which libjpeg cannot bring to pixels either.
    """
    top, left, height, width = resize.crop or (0, 0, *image_size)
    crops = ((top, height), (left, width))
    place_top, place_left, place_height, place_width = resize.place or (0, 0, *resize.size)
    places = ((place_top, place_height), (place_left, place_width))
    for what, spans, limits in (("crop", crops, image_size), ("place", places, resize.size)):
        beyond = to_pixels and what == "place"
        if any(not _fits(*span, px, beyond) for span, px in zip(spans, limits)):
            raise ValueError(f"the {what} {spans} (start, length; down, across) does not lie within {limits}")
    transpose, *turned = TURNS[orientation]
    stored_axis = (1, 0) if transpose else (0, 1)
    flips = (resize.flip_vertical, resize.flip_horizontal)
    largest = tuple(max(factors) for factors in zip(*sampling))
    axes: list[tuple[Axis, Axis]] = []
    for component, (horizontal, vertical) in enumerate(sampling):
        if component == 2 and sampling[1] == sampling[2]:
            axes.append(axes[1])
            continue
        ratios = (largest[1] / vertical, largest[0] / horizontal)
        if any(ratio != int(ratio) for ratio in ratios):
            raise JpegError("<coefficients>", f"sampling factors {sampling}, whose ratios are not whole numbers")
        smooth = _upsampled_smoothly(ratios, upright_size(image_size, orientation))
        vertical_axis, horizontal_axis = (
            Axis(
                image_px=image_size[i],
                ratio=int(ratios[stored_axis[i]]),
                smooth=smooth[stored_axis[i]],
                start_px=image_size[i] - sum(crops[i]) if turned[i] else crops[i][0],
                stop_px=image_size[i] - crops[i][0] if turned[i] else sum(crops[i]),
                flip=flips[i] != turned[i],
                place_px=places[i][1],
                before_px=places[i][0],
                canvas_px=resize.size[i],
                halve=component > 0 and not to_pixels,
                repeat_pixels=i == 1,
                filter=resize.filter,
            )
            for i in (0, 1)
        )
        axes.append((vertical_axis, horizontal_axis))
    return tuple(axes)


def _fits(start: int, length: int, limit: int, beyond: bool) -> bool:
    """Whether `length` pixels from `start` on lie within 0..limit; with `beyond`, whether any of them does."""
    if length < 1:
        return False
    return start < limit and start + length > 0 if beyond else start >= 0 and start + length <= limit


def _upsampled_smoothly(ratios: tuple[float, float], stored_size: tuple[int, int]) -> tuple[bool, bool]:
    """Which of the (vertical, horizontal) axes libjpeg-turbo's decoder interpolates (jdsample.c): ratios of 2 by 1,
    1 by 2 and 2 by 2, but not across rows of one or two samples."""
    vertical, horizontal = ratios
    if horizontal == 2 and vertical in (1, 2):
        smooth = -(-stored_size[1] // 2) > 2
        return smooth and vertical == 2, smooth
    return (vertical, horizontal) == (2, 1), False


FITS = ("stretch", "crop", "letterbox")


def fit_image(
    image_size: tuple[int, int],
    size: int | tuple[int, int],
    fit: str = "stretch",
    *,
    shorter_side: int | None = None,
    fill: tuple[float, float, float] = (114.0, 114.0, 114.0),
    antialias: bool = True,
    interpolation: str = "bilinear",
) -> Resize:
    """What the usual ways of fitting an image into a network's input make of one of `image_size`.

    Args:
        image_size: (height, width) of the upright picture.
        size: of the input in pixels, a side or (height, width).
        fit: 'stretch' changes the picture's proportions.  'crop' resizes its shorter side to `shorter_side` and cuts
            out the middle, as torchvision's Resize and CenterCrop do.  'letterbox' shows all of it in its proportions,
            in the middle, with `fill` beside it; `place` in the result says where it is.
        shorter_side: of 'crop', in pixels; None: the smallest that fills the input.
        fill: of 'letterbox', RGB of 255.
        antialias, interpolation: those of `Resize`.

    Raises:
        ValueError: an unknown fit or interpolation, or a shorter side that does not fill the input.
    """
    height, width = size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if fit not in FITS:
        raise ValueError(f"fit is one of {', '.join(map(repr, FITS))}, not {fit!r}")
    if min(size) < 1:
        raise ValueError(f"a size is at least 1 x 1 pixels, not {height} x {width}")
    if shorter_side is not None and (fit != "crop" or shorter_side < 1):
        raise ValueError(f"a shorter side of 1 or more pixels goes with fit='crop', not {shorter_side} with {fit!r}")
    place = None
    if fit == "letterbox":
        scale = min(height / image_size[0], width / image_size[1])
        fitted = [min(limit, max(1, round(px * scale))) for px, limit in zip(image_size, size)]
        place = (height - fitted[0]) // 2, (width - fitted[1]) // 2, *fitted
    elif fit == "crop":
        place = _middle(image_size, size, shorter_side)
    ycbcr = tuple(float(np.dot(row, fill)) + level for row, level in zip(FROM_RGB, (0, 128, 128)))
    return Resize(size, antialias, place=place, fill=ycbcr, interpolation=interpolation)


def _middle(image_size: tuple[int, int], size: tuple[int, int], shorter_side: int | None) -> tuple[int, int, int, int]:
    """Where torchvision's Resize(shorter_side) lies about its CenterCrop(size)."""
    if shorter_side is None:  # as long as the input's longer side needs
        shorter_side = max(-(-px * min(image_size) // own) for px, own in zip(size, image_size))
    resized = [int(shorter_side * px / min(image_size)) for px in image_size]  # it cuts fractions off
    if any(own < px for own, px in zip(resized, size)):
        raise ValueError(
            f"an image of {image_size[0]} x {image_size[1]} with a shorter side of {shorter_side} pixels does not fill "
            f"{size[0]} x {size[1]}"
        )
    top, left = (round((own - px) / 2) for own, px in zip(resized, size))
    return -top, -left, resized[0], resized[1]
