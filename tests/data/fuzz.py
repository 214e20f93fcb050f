"""Damages JPEGs at random and reads each by every path that networks get their inputs by, and that draws.

All paths must give the same verdict, and sizes, in less than 1 GiB of memory.

    python -m tests.data.fuzz --cases 10000 [--seed 0]

Exits with 1 after a case for which that does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Callable

import numpy as np

from jpegdeep_torch.data.dataset import decode_batch, read_batch
from jpegdeep_torch.data.reading import InputReader
from jpegdeep_torch.errors import JpegError
from jpegdeep_torch.inference.drawing import load_image
from jpegdeep_torch.inference.writer import MOST_DRAWN_PX
from jpegdeep_torch.jpeg import ReadOptions
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from tests.jpeg.fuzz import BYTES, damage, peak_bytes, reset_peak, seeds

LEVELS = ("error", "tolerate", "strict")
Read = Callable[[bytes, ReadOptions], tuple[int, int] | None]  # -> (height, width), None for a file that is refused


def by_reader(model: str, preset: str, coefficients: str, decoder: str = "native") -> Read:
    """As a predictor reads and prepares a file."""
    config = model_config(model)

    def read(data: bytes, options: ReadOptions) -> tuple[int, int] | None:
        reader = InputReader(config, get_preset(preset, coefficients), decoder, options)
        batch = read_batch(reader, [(0, data, "case.jpg")])
        if reader.leaves_encoded and len(batch):
            decode_batch(batch, reader, "cpu")
        return tuple(batch.image_sizes[0].tolist()) if len(batch) else None

    return read


def drawn(data: bytes, options: ReadOptions) -> tuple[int, int] | None:
    """As `predict` reads a file that it draws."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        try:
            image, scale = load_image(file.name, MOST_DRAWN_PX, options)
        except JpegError:
            return None
    return (image.height, image.width) if scale == 1 else (0, 0)  # reduced


def paths() -> dict[str, Read]:
    """Every path, by name."""
    found = {f"pixels by {decoder}": by_reader("ssd300_vgg16", "voc", "native", decoder) for decoder in DECODER_NAMES}
    found |= {
        coefficients: by_reader("ssd300_vgg16_dct", "voc", coefficients) for coefficients in ("native", "reencode")
    }
    found["luma alone"] = by_reader("ssd300_vgg16_dct_y", "voc", "native")
    for model, coefficients in itertools.product(("vgg16", "vgg16_dct"), ("native", "reencode")):
        if model.endswith("dct") or coefficients == "native":
            found[f"{model}, {coefficients}"] = by_reader(model, "imagenet", coefficients)
    return found | {"drawn": drawn}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files, ways = seeds(), paths()
    outcomes: Counter[str] = Counter()
    largest, failures = 0, 0
    for case in range(options.cases):
        data = damage(np.random.default_rng([options.seed, case]), files)
        reading = ReadOptions(on_damage=LEVELS[case % len(LEVELS)])
        found = {}
        for name, read in ways.items():
            reset_peak()
            found[name] = read(data, reading)
            peak = peak_bytes()
            largest = max(largest, peak)
            if peak > BYTES:
                failures += 1
                print(f"case {case}, {name}: {peak / 2**20:.0f} MiB", flush=True)
        sizes = {size for size in found.values() if size != (0, 0)}
        outcomes["refused" if None in sizes else "read"] += 1
        if len(sizes) > 1:
            failures += 1
            print(f"case {case}, {reading.on_damage}: {found}", flush=True)
    print(f"{dict(outcomes)}, peak {largest / 2**20:.0f} MiB with the interpreter's own, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
