"""Photographs for a benchmark that brings none: cut from those that scikit-image installs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.jpeg.pixels import decode_rgb
from jpegdeep_torch.jpeg.reencode import encode_jpeg

WIDTH_PX, HEIGHT_PX, QUALITY = 500, 375, 90  # VOC's commonest size
_PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")


def described(count: int) -> str:
    """What `builtin_jpegs` gives, in words."""
    return f"{count} built-in photographs of {WIDTH_PX}x{HEIGHT_PX}, 4:2:0, quality {QUALITY}"


def builtin_jpegs(count: int = 32, seed: int = 0) -> list[bytes]:
    """`count` JPEGs of 500x375 pixels, 4:2:0, quality 90: windows of seeded place and size, half of them mirrored."""
    try:
        import skimage.data
    except ImportError:
        raise DatasetError(
            "the built-in photographs are scikit-image's: pip install scikit-image (the extra 'eval'), or give a "
            "folder of JPEGs with --images"
        ) from None
    photographs = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in _PHOTOGRAPHS]
    generator = np.random.default_rng(seed)
    return [_cut(photographs[i % len(photographs)], generator) for i in range(count)]


def mosaic_jpegs(jpegs: Sequence[bytes], tiles: int, count: int = 8) -> list[bytes]:
    """`count` JPEGs of tiles x tiles photographs, 4:2:0, quality 90: larger files of unchanged detail.

    The photographs are `jpegs`, over and over where there are fewer, each cut and scaled to 500x375.
    """
    used = [_fitted(data) for data in jpegs[: count * tiles * tiles]]
    cuts = list(itertools.islice(itertools.cycle(used), count * tiles * tiles))
    rows = [np.concatenate(cuts[i : i + tiles], axis=1) for i in range(0, len(cuts), tiles)]
    return [encode_jpeg(np.concatenate(rows[i : i + tiles]), QUALITY) for i in range(0, len(rows), tiles)]


def _fitted(data: bytes) -> np.ndarray:
    """(375, 500, 3) uint8."""
    pixels = decode_rgb(data)
    if pixels.shape[:2] == (HEIGHT_PX, WIDTH_PX):
        return pixels
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS))


def _cut(photograph: Image.Image, generator: np.random.Generator) -> bytes:
    largest = min(photograph.width / WIDTH_PX, photograph.height / HEIGHT_PX)
    scale = largest * generator.uniform(0.6, 1.0)
    width, height = scale * WIDTH_PX, scale * HEIGHT_PX
    left = generator.uniform(0, photograph.width - width)
    top = generator.uniform(0, photograph.height - height)
    window = photograph.resize(
        (WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS, box=(left, top, left + width, top + height)
    )
    if generator.random() < 0.5:
        window = window.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return encode_jpeg(np.asarray(window), QUALITY)
