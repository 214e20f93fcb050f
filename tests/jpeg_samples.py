"""JPEGs of all kinds, drawn here: the repository holds no pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours, edges and a little noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin(x / (7 + 3 * c) + c) * np.cos(y / (11 - 2 * c)) for c in range(3)]
    image = np.stack(waves, axis=-1) + generator.normal(0, 6, (height, width, 3))
    image[height // 4 : height // 2, width // 3 : width // 2] = generator.integers(0, 255, 3)
    return image.clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray | None = None, mode: str = "RGB", **save: object) -> bytes:
    """A JPEG by Pillow; `save` are its options (quality, subsampling, progressive, ...)."""
    image = Image.fromarray(picture() if pixels is None else pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **save)
    return buffer.getvalue()


KINDS = {  # what users hold -> how Pillow writes it
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4"},
    "progressive": {"progressive": True},
    "restart intervals": {"restart_marker_blocks": 3},
    "optimised": {"optimize": True, "quality": 95},
    "grayscale": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
}

BROKEN = {  # name -> (bytes, a word of the reason)
    "empty": (b"", "empty"),
    "not a JPEG": (b"GIF89a" + bytes(64), "not a JPEG"),
    "half a file": (jpeg()[: len(jpeg()) // 2], "truncated"),
    "no end": (jpeg()[:-20], "truncated"),
    "header only": (jpeg()[:200], "truncated"),
    "markers without an image": (b"\xff\xd8\xff\xd9", "no image"),
}
