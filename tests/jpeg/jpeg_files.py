"""JPEG files for the tests: real ones where there are any, generated ones, and a writer for known integers."""

from __future__ import annotations

import io
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
BCCD = SHARED / "data/bccd/JPEGImages"

needs_shared = pytest.mark.skipif(not BCCD.is_dir(), reason=f"no {SHARED.name}/ beside the repository")

SAMPLINGS = {
    "gray": ((1, 1),),
    "gray 2x2": ((2, 2),),
    "4:4:4": ((1, 1),) * 3,
    "4:2:2": ((2, 1), (1, 1), (1, 1)),
    "4:2:0": ((2, 2), (1, 1), (1, 1)),
    "4:4:0": ((1, 2), (1, 1), (1, 1)),
    "4:1:1": ((4, 1), (1, 1), (1, 1)),
    "4:1:0": ((4, 2), (1, 1), (1, 1)),
}

# ITU-T T.81, figure A.6: position in the file of each frequency.
_ZIGZAG = sorted(range(64), key=lambda i: (s := i // 8 + i % 8, i // 8 if s % 2 else i % 8))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3): smooth shapes, edges and a little noise, which is what photographs are made of."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.uniform(-6, 6, (3, 3))]
    edges = (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) > rng.uniform(-0.2, 0.5)) * 60
    noise = rng.normal(0, 6, (height, width, 3))
    return np.clip(110 + 50 * np.stack(waves, -1) + edges[..., None] + noise, 0, 255).astype(np.uint8)


def pillow_jpeg(height: int, width: int, seed: int = 0, mode: str = "RGB", **options) -> bytes:
    """A JPEG of `picture` as Pillow writes it; `options` are those of its save."""
    buffer = io.BytesIO()
    Image.fromarray(picture(height, width, seed)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def grids(image_size, sampling) -> list[tuple[int, int]]:
    """(block rows, block columns) of each component: ceil(ceil(image * factor / largest) / 8)."""
    widest, highest = (max(factors) for factors in zip(*sampling))
    height, width = image_size
    return [(ceil(ceil(height * v / highest) / 8), ceil(ceil(width * h / widest) / 8)) for h, v in sampling]


def random_integers(image_size, sampling, seed: int = 0, density: float = 0.15) -> list[np.ndarray]:
    """Quantised coefficients, int64 (block rows, block columns, 64) per component."""
    rng = np.random.default_rng(seed)
    planes = []
    for grid in grids(image_size, sampling):
        values = rng.integers(-20, 21, (*grid, 64)) * (rng.random((*grid, 64)) < density)
        values[..., 0] = rng.integers(-60, 61, grid)
        planes.append(values)
    return planes


def write_jpeg(integers, image_size, sampling, tables, restart_interval: int = 0) -> bytes:
    """A baseline JPEG of exactly these quantised coefficients: the tests' own encoder, with codes of one length.

    integers: (block rows, block columns, 64) per component, natural order; tables: (components, 64) steps, 1..255.
    """
    height, width = image_size
    out = bytearray(b"\xff\xd8")

    def segment(marker: int, body: bytes) -> None:
        out.extend(bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body)

    for c, table in enumerate(tables):
        segment(0xDB, bytes([c, *(int(table[i]) for i in _ZIGZAG)]))
    frame = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([len(sampling)])
    segment(0xC0, frame + b"".join(bytes([c + 1, 16 * h + v, c]) for c, (h, v) in enumerate(sampling)))
    # 12 DC categories with codes of 4 bits, and 16 x 11 AC symbols with codes of 8 bits.
    symbols = [16 * run + size for run in range(16) for size in range(11)]
    segment(0xC4, bytes([0x00, 0, 0, 0, 12, *[0] * 12, *range(12)]))
    segment(0xC4, bytes([0x10, *[0] * 7, len(symbols), *[0] * 8, *symbols]))
    if restart_interval:
        segment(0xDD, restart_interval.to_bytes(2, "big"))
    selectors = b"".join(bytes([c + 1, 0]) for c in range(len(sampling)))
    segment(0xDA, bytes([len(sampling)]) + selectors + bytes([0, 63, 0]))
    out.extend(_scan(integers, image_size, sampling, symbols, restart_interval))
    return bytes(out + b"\xff\xd9")


def _scan(integers, image_size, sampling, symbols, restart_interval) -> bytes:
    codes = {symbol: format(i, "08b") for i, symbol in enumerate(symbols)}
    widest, highest = (max(factors) for factors in zip(*sampling))
    mcu_rows, mcu_columns = -(-image_size[0] // (8 * highest)), -(-image_size[1] // (8 * widest))
    if len(sampling) == 1:  # one component is never interleaved: an MCU is one block
        sampling, (mcu_rows, mcu_columns) = ((1, 1),), integers[0].shape[:2]
    out, bits, last = bytearray(), [], [0] * len(sampling)

    def flush() -> None:
        text = "".join(bits)
        bits.clear()
        text += "1" * (-len(text) % 8)
        whole = int(text, 2).to_bytes(len(text) // 8, "big") if text else b""
        out.extend(whole.replace(b"\xff", b"\xff\x00"))

    for mcu in range(mcu_rows * mcu_columns):
        if restart_interval and mcu and mcu % restart_interval == 0:
            flush()
            out.extend([0xFF, 0xD0 + (mcu // restart_interval - 1) % 8])
            last = [0] * len(sampling)
        for c, (h, v) in enumerate(sampling):
            for i in range(h * v):
                y, x = mcu // mcu_columns * v + i // h, mcu % mcu_columns * h + i % h
                inside = y < integers[c].shape[0] and x < integers[c].shape[1]
                block = integers[c][y, x] if inside else np.eye(1, 64, dtype=int)[0] * last[c]
                _block(bits, [int(block[k]) for k in _ZIGZAG], last[c], codes)
                last[c] = int(block[0])
    flush()
    return bytes(out)


def _block(bits: list[str], values: list[int], last_dc: int, codes: dict[int, str]) -> None:
    def magnitude(value: int) -> str:
        size = abs(value).bit_length()
        return format(value if value > 0 else value + (1 << size) - 1, f"0{size}b") if size else ""

    size = abs(values[0] - last_dc).bit_length()
    bits.append(format(size, "04b") + magnitude(values[0] - last_dc))
    run = 0
    for value in values[1:]:
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits.append(codes[0xF0])
            run -= 16
        bits.append(codes[16 * run + abs(value).bit_length()] + magnitude(value))
        run = 0
    if run:
        bits.append(codes[0])
