"""Where an image's pixels go: drawn once, carried out on pixels or on coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...jpeg import Resize
from .config import AugmentationConfig

INTERPOLATIONS = ("nearest", "linear", "cubic", "area", "lanczos")  # OpenCV's, which the reference draws from

Rectangle = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class Geometry:
    """The part `crop` of an image, in its pixels, is resized to `place`, in pixels of the network's input.

    size: side of that input.  flip: whether the part is mirrored horizontally (`place` is where it lies then).
    interpolation: one of INTERPOLATIONS.
    Both rectangles are whole pixels, (top, left, height, width); boxes are mapped by them, whatever was drawn.
    """

    size: int
    crop: Rectangle
    place: Rectangle
    flip: bool = False
    interpolation: str = "linear"

    @property
    def covers(self) -> bool:
        """Whether nothing is to be seen around the image."""
        return self.place == (0, 0, self.size, self.size)

    def resize(self, antialias: bool = False) -> Resize:
        """The same in the DCT domain."""
        return Resize(
            size=(self.size, self.size),
            antialias=antialias or self.interpolation == "area",
            crop=self.crop,
            flip_horizontal=self.flip,
            place=None if self.covers else self.place,
        )

    def map_boxes(self, boxes: np.ndarray, min_px: float) -> tuple[np.ndarray, np.ndarray]:
        """(K, 4) boxes in pixels of the image -> (K, 4) float64, fractions of the network's input, and (K,) bool: kept.

        Kept are the boxes whose centre lies in the crop and that are at least `min_px` wide and high in the input; all
        are clipped to what is seen of the image.
        """
        (top, left, height, width), (place_top, place_left, place_height, place_width) = self.crop, self.place
        corners = boxes.astype(np.float64)
        x, y = corners[:, 0::2], corners[:, 1::2]
        x_centre, y_centre = (x[:, 0] + x[:, 1]) / 2, (y[:, 0] + y[:, 1]) / 2
        kept = (left < x_centre) & (x_centre < left + width) & (top < y_centre) & (y_centre < top + height)
        # Products first: whole pixels that keep their size stay what they are, to the last bit.
        x = ((x - left) * place_width / width).clip(0, place_width)
        y = ((y - top) * place_height / height).clip(0, place_height)
        if self.flip:
            x = place_width - x[:, ::-1]
        x, y = x + place_left, y + place_top
        kept &= (x[:, 1] - x[:, 0] >= min_px) & (y[:, 1] - y[:, 0] >= min_px)
        return np.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), axis=1) / self.size, kept


def plain_geometry(image_size: tuple[int, int], size: int) -> Geometry:
    """The whole image, (height, width), stretched over the whole input."""
    return Geometry(size, (0, 0, *image_size), (0, 0, size, size))


def draw_detection_geometry(
    config: AugmentationConfig, random: np.random.Generator, image_size: tuple[int, int], size: int, boxes: np.ndarray
) -> Geometry:
    """Expansion, IoU crop, flip and interpolation of an image, (height, width), with (K, 4) boxes within it."""
    height, width = image_size
    canvas, top, left = image_size, 0, 0  # and where on the canvas the image is
    if random.random() < config.expand_probability:
        ratio = random.uniform(1, config.expand_max_ratio)
        canvas = int(height * ratio), int(width * ratio)
        top, left = (int((whole - px) * random.random()) for whole, px in zip(canvas, image_size))
    view = (0, 0, *canvas)
    if config.iou_crop:
        view = _draw_iou_crop(config, random, canvas, boxes + np.array((left, top, left, top))) or view
    flip = random.random() < config.flip_probability
    interpolation = INTERPOLATIONS[random.integers(len(INTERPOLATIONS))] if config.random_interpolation else "linear"
    rows = _seen(view[0] - top, view[2], height, size)
    columns = _seen(view[1] - left, view[3], width, size)
    (crop_top, crop_height, place_top, place_height), (crop_left, crop_width, place_left, place_width) = rows, columns
    if flip:
        place_left = size - place_left - place_width
    crop = crop_top, crop_left, crop_height, crop_width
    return Geometry(size, crop, (place_top, place_left, place_height, place_width), flip, interpolation)


def _seen(view_px: int, length_px: int, image_px: int, size: int) -> tuple[int, int, int, int]:
    """Along one axis of a view that begins at `view_px` of the image: start and length of what is seen of the image,
    and of where that lies in an input of `size`, to the nearest pixel."""
    start, stop = max(0, view_px), min(image_px, view_px + length_px)
    first = round((start - view_px) * size / length_px)
    last = round((stop - view_px) * size / length_px)
    if first == last:  # thinner than a pixel: it still gets one
        first = min(first, size - 1)
        last = first + 1
    return start, stop - start, first, last - first


def _draw_iou_crop(
    config: AugmentationConfig, random: np.random.Generator, canvas: tuple[int, int], boxes: np.ndarray
) -> Rectangle | None:
    """A part of the canvas, or None for all of it: torchvision's v2.RandomIoUCrop.

    Its trials are drawn and judged all at once, of which the first that holds is taken: one by one, as torchvision
    does, they take longer than reading the file.
    """
    least, most = config.iou_crop_scale
    smallest = int(canvas[0] * least) * int(canvas[1] * least)
    if len(boxes) == 0 or smallest < 1:
        return None
    pixels = np.array(canvas)[:, None]
    low, high = boxes.T[[1, 0], None], boxes.T[[3, 2], None]  # (2, 1, boxes): down, across
    centre, (area,) = (low + high) / 2, (high[0] - low[0]) * (high[1] - low[1])
    possible = area.max() / smallest  # no crop overlaps an object by more
    while True:  # ends when no crop is drawn, which the configuration provides for
        overlap = config.iou_crop_overlaps[random.integers(len(config.iou_crop_overlaps))]
        if overlap >= 1:
            return None
        if overlap > possible:
            continue
        drawn = random.random((4, config.iou_crop_trials))
        sizes = (pixels * (least + (most - least) * drawn[:2])).astype(int)  # (2, trials)
        starts = ((pixels - sizes) * drawn[2:]).astype(int)
        start, stop = starts[..., None], (starts + sizes)[..., None]
        down, across = (start < centre) & (centre < stop)  # (trials, boxes)
        # A box whose centre is inside overlaps for certain; the others do not count.
        sides = np.minimum(stop, high) - np.maximum(start, low)
        shared = sides[0] * sides[1]
        enough = shared >= overlap * ((sizes[0] * sizes[1])[:, None] + area - shared)
        aspect = sizes[1] / sizes[0]
        right_shape = (config.iou_crop_aspect[0] <= aspect) & (aspect <= config.iou_crop_aspect[1])
        found = (down & across & enough).any(axis=1) & right_shape
        if found.any():
            i = int(found.argmax())
            return int(starts[0, i]), int(starts[1, i]), int(sizes[0, i]), int(sizes[1, i])


def draw_classifier_geometry(
    config: AugmentationConfig, random: np.random.Generator, image_size: tuple[int, int], size: int
) -> Geometry:
    """A random part of an image, (height, width), resized to the whole input, and a flip: v2.RandomResizedCrop."""
    height, width = image_size
    least, most = config.crop_ratio
    for _ in range(10):
        area = height * width * random.uniform(*config.crop_scale)
        ratio = math.exp(random.uniform(math.log(least), math.log(most)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = int(random.integers(height - crop_height + 1)), int(random.integers(width - crop_width + 1))
            break
    else:  # an image of extreme shape: its middle, as near to the ratios as it goes
        crop_width, crop_height = width, height
        if width / height < least:
            crop_height = max(1, round(width / least))
        elif width / height > most:
            crop_width = max(1, round(height * most))
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
    flip = random.random() < config.flip_probability
    return Geometry(size, (top, left, crop_height, crop_width), (0, 0, size, size), flip)
