"""A small VOC-style data set of generated photographs: coloured discs and squares on noise, boxes known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("disc", "square")
_COLOURS = {"disc": (200, 40, 60), "square": (40, 90, 210)}


def make_voc(root: Path, count: int = 8, seed: int = 0, size: tuple[int, int] = (240, 320)) -> Path:
    """Writes `count` images (height, width) with 1 to 3 objects each; ImageSets train and test name all of them."""
    random = np.random.default_rng(seed)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"image_{i}" for i in range(count)]
    for name in names:
        pixels, objects = _draw(random, *size)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=90)
        rows = "".join(
            f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for kind, (x0, y0, x1, y1) in objects
        )
        head = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{head}{rows}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    for image_set in ("train", "test"):
        (root / "ImageSets/Main" / f"{image_set}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return root


def _draw(random: np.random.Generator, height: int, width: int):
    coarse = random.integers(90, 150, (height // 8, width // 8, 3)).astype(np.uint8)
    pixels = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:height, :width]
    objects = []
    for place in random.permutation(4)[: random.integers(1, 4)]:  # one a quadrant, so that none overlap
        kind = CLASSES[random.integers(2)]
        side = int(random.integers(50, 95))
        x0 = int(place % 2 * width // 2 + random.integers(2, width // 2 - side))
        y0 = int(place // 2 * height // 2 + random.integers(2, height // 2 - side))
        inside = (x >= x0) & (x < x0 + side) & (y >= y0) & (y < y0 + side)
        if kind == "disc":
            inside &= (x - x0 - side / 2) ** 2 + (y - y0 - side / 2) ** 2 < (side / 2) ** 2
        pixels[inside] = _COLOURS[kind]
        objects.append((kind, (x0, y0, x0 + side, y0 + side)))
    return pixels, objects
