"""Detections and annotations as pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import JpegError

_GOLDEN = 0.618033988749895  # steps of this share of the colour circle stay far apart however many are taken
TRUTH_COLOUR = (255, 255, 255)
_BACKGROUND = (32, 33, 36)
_GAP_PX = 6


def load_picture(source: str | Path, most_px: int | None = None) -> tuple[Image.Image, float]:
    """(RGB picture, its share of the original's size): whole, or with sides of at most `most_px`.  JpegError."""
    try:
        with Image.open(source) as opened:
            width = opened.width
            if most_px:
                opened.draft("RGB", (most_px, most_px))  # lets libjpeg decode at 1/2, 1/4 or 1/8 where that suffices
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise JpegError(source, f"cannot be drawn ({error})") from None
    if most_px:
        picture.thumbnail((most_px, most_px))
    return picture, picture.width / width


def class_colour(label: int) -> tuple[int, int, int]:
    """A colour for each label, the same in every picture."""
    red, green, blue = colorsys.hsv_to_rgb((label * _GOLDEN) % 1.0, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size=size)
    except (TypeError, ImportError):  # Pillow before 10.1, or without FreeType: one small bitmap font
        return ImageFont.load_default()


def draw_boxes(
    picture: Image.Image,
    boxes: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    scale: float = 1.0,
) -> Image.Image:
    """Draws boxes (K, 4), in pixels of the original, and a text at each into `picture`, the last on top."""
    pen = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 320))
    font = _font(max(10, round(max(picture.size) / 45)))
    for box, text, colour in zip(np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale, texts, colours):
        low, high = np.sort(box.reshape(2, 2), axis=0).clip(0, np.array(picture.size) - 1)
        pen.rectangle((*low.tolist(), *high.tolist()), outline=colour, width=line)
        if text:
            _draw_text(pen, (float(low[0]), float(low[1])), text, colour, font, picture.size)
    return picture


def _draw_text(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: tuple[int, int, int], font: Any,
    size: tuple[int, int],
) -> None:  # fmt: skip
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(at[0], size[0] - width))
    y = at[1] - height if at[1] >= height else at[1]  # above the box, or inside where there is no room above
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((x + 2 - left, y + 2 - top), text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255))


def draw_detections(
    picture: Image.Image, detections: dict[str, Any], class_names: Sequence[str], scale: float = 1.0
) -> Image.Image:
    """Draws `{"boxes", "scores", "labels"}` with class names and scores, the best on top."""
    order = np.argsort(np.asarray(detections["scores"], dtype=np.float64), kind="stable")
    labels = np.asarray(detections["labels"], dtype=np.int64)[order].tolist()
    scores = np.asarray(detections["scores"])[order].tolist()
    texts = [f"{class_names[label - 1]} {score:.2f}" for label, score in zip(labels, scores)]
    boxes = np.asarray(detections["boxes"]).reshape(-1, 4)[order]
    return draw_boxes(picture, boxes, texts, [class_colour(label) for label in labels], scale)


def draw_truth(
    picture: Image.Image, boxes: np.ndarray, names: Sequence[str], class_names: Sequence[str], scale: float = 1.0
) -> Image.Image:
    """Draws annotated objects with their names, in the colours that detections of the same name have."""
    colour_of = {name: class_colour(label) for label, name in enumerate(class_names, start=1)}
    return draw_boxes(picture, boxes, names, [colour_of.get(name, TRUTH_COLOUR) for name in names], scale)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """The pictures in a row."""
    width = sum(picture.width for picture in pictures) + _GAP_PX * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), _BACKGROUND)
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + _GAP_PX
    return row


def contact_sheets(
    pictures: Iterable[Path], columns: int = 6, rows: int = 5, tile_px: int = 240
) -> Iterator[Image.Image]:
    """Sheets of `columns` x `rows` reduced pictures, one sheet in memory at a time."""
    sheet, pen, place = None, None, 0
    step = tile_px + _GAP_PX
    caption = 14
    for path in pictures:
        if sheet is None:
            sheet = Image.new("RGB", (columns * step + _GAP_PX, rows * (step + caption) + _GAP_PX), _BACKGROUND)
            pen, place = ImageDraw.Draw(sheet), 0
        tile, _ = load_picture(path, tile_px)
        left, top = _GAP_PX + place % columns * step, _GAP_PX + place // columns * (step + caption)
        sheet.paste(tile, (left + (tile_px - tile.width) // 2, top + (tile_px - tile.height) // 2))
        pen.text((left, top + tile_px), path.stem[-36:], font=_font(11), fill=(220, 220, 220))
        place += 1
        if place == columns * rows:
            yield sheet
            sheet = None
    if sheet is not None:
        used = -(-place // columns)
        yield sheet.crop((0, 0, sheet.width, used * (step + caption) + _GAP_PX))
