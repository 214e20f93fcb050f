"""Draws detections and annotations into images."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from ..data.reading import read_bytes
from ..jpeg import ReadOptions
from ..jpeg.markers import parse_header
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixels import DEFAULT_DECODER, decode_rgb
from ..jpeg.reader import Source

_GOLDEN = 0.618033988749895  # steps of this share of the colour circle stay far apart however many are taken
GROUND_TRUTH_COLOUR = (255, 255, 255)
JPEG_QUALITY = 88
_BACKGROUND = (32, 33, 36)
_GAP_PX, _CAPTION_PX = 6, 14
Colour = tuple[int, int, int]  # red, green, blue from 0 to 255


def load_image(
    source: Source, most_px: int | None = None, options: ReadOptions = DEFAULT_OPTIONS
) -> tuple[Image.Image, float]:
    """Reads a JPEG to draw into.

    Args:
        most_px: the longest side that the image is reduced to (default: none, it stays as it is).
        options: those that it was read with for a network: the same files are refused, and the same way is up.

    Returns:
        (the image in RGB, its size as a share of the original's).

    Raises:
        JpegError: it cannot be read.
    """
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    data = read_bytes(source, name)
    height, width = parse_header(data, name, options).image_size
    if most_px is None or most_px >= max(height, width):
        return Image.fromarray(decode_rgb(data, name, decoder=DEFAULT_DECODER, options=options)), 1.0
    # Decoded at 1/2, 1/4 or 1/8 where that suffices.
    pixels = decode_rgb(data, name, decoder="pillow-draft", size=most_px, options=options)
    scale = most_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)), scale


def class_colour(label: int) -> Colour:
    """A colour for each label, the same in every image."""
    red, green, blue = colorsys.hsv_to_rgb((label * _GOLDEN) % 1.0, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size=size)
    except (TypeError, ImportError):  # Pillow before 10.1, or without FreeType: one small bitmap font
        return ImageFont.load_default()


def draw_boxes(
    image: Image.Image, boxes: np.ndarray, texts: Sequence[str], colours: Sequence[Colour], scale: float = 1.0
) -> Image.Image:
    """Draws boxes (K, 4), in pixels of the original, and a text at each into `image`, the last on top; gives `image`.

    scale: the image's width as a share of the original's.
    """
    pen = ImageDraw.Draw(image)
    line = max(1, round(max(image.size) / 320))
    font = _font(max(10, round(max(image.size) / 45)))
    for box, text, colour in zip(np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale, texts, colours):
        x0, y0, x1, y1 = np.sort(box.reshape(2, 2), axis=0).clip(0, np.array(image.size) - 1).ravel().tolist()
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=line)
        if text:
            _draw_text(pen, x0, y0, text, colour, font, image.width)
    return image


def _draw_text(
    pen: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: Colour, font: Any, image_width: int
) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(x, image_width - width))
    y = y - height if y >= height else y  # above the box, or inside where there is no room above
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((x + 2 - left, y + 2 - top), text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255))


def draw_detections(
    image: Image.Image, found: dict[str, Tensor], class_names: Sequence[str], scale: float = 1.0
) -> Image.Image:
    """Draws what a Detector found, with class names and scores, the best on top.  `scale`: that of `draw_boxes`."""
    labels, scores = found["labels"].tolist()[::-1], found["scores"].tolist()[::-1]
    texts = [f"{class_names[label - 1]} {score:.2f}" for label, score in zip(labels, scores)]
    return draw_boxes(image, found["boxes"].numpy()[::-1], texts, [class_colour(label) for label in labels], scale)


def draw_ground_truth(
    image: Image.Image, boxes: np.ndarray, names: Sequence[str], class_names: Sequence[str], scale: float = 1.0
) -> Image.Image:
    """Draws annotated objects with their names, in the colours that detections of the same name have.

    `scale`: that of `draw_boxes`.
    """
    colour_of = {name: class_colour(label) for label, name in enumerate(class_names, start=1)}
    return draw_boxes(image, boxes, names, [colour_of.get(name, GROUND_TRUTH_COLOUR) for name in names], scale)


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """One image of all of them in a row."""
    width = sum(image.width for image in images) + _GAP_PX * (len(images) - 1)
    whole = Image.new("RGB", (width, max(image.height for image in images)), _BACKGROUND)
    x = 0
    for image in images:
        whole.paste(image, (x, 0))
        x += image.width + _GAP_PX
    return whole


def contact_sheets(paths: Iterable[Path], columns: int = 6, rows: int = 5, tile_px: int = 240) -> Iterator[Image.Image]:
    """Sheets of `columns` x `rows` reduced images with their names, one sheet in memory at a time.

    paths: JPEG and PNG files that were drawn here.
    """
    step_x, step_y = tile_px + _GAP_PX, tile_px + _GAP_PX + _CAPTION_PX
    paths = iter(paths)
    while chosen := list(itertools.islice(paths, columns * rows)):
        used = -(-len(chosen) // columns)
        sheet = Image.new("RGB", (columns * step_x + _GAP_PX, used * step_y + _GAP_PX), _BACKGROUND)
        pen = ImageDraw.Draw(sheet)
        for place, path in enumerate(chosen):
            tile = _tile(path, tile_px)
            left, top = _GAP_PX + place % columns * step_x, _GAP_PX + place // columns * step_y
            sheet.paste(tile, (left + (tile_px - tile.width) // 2, top + (tile_px - tile.height) // 2))
            pen.text((left, top + tile_px), path.stem[-36:], font=_font(11), fill=(220, 220, 220))
        yield sheet


def _tile(path: Path, most_px: int) -> Image.Image:
    kind = PngImageFile if path.suffix == ".png" else JpegImageFile  # not Image.open: its limit of pixels is not ours
    with kind(path) as opened:
        opened.draft("RGB", (most_px, most_px))
        tile = opened.convert("RGB")
    tile.thumbnail((most_px, most_px))
    return tile
