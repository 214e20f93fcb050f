"""Damages small JPEGs at random and reads each by every way of the native part: for sanitizers, and against libjpeg.

    python -m tests.jpeg.sanitize --cases 5000 [--seed 0] [--seconds 300]

Each case goes through the planes, coefficients and pixels at several sizes, with one thread and with two, under all of
`on_damage`.  The fast decoders must say of every file what libjpeg says, and give the same coefficients; two threads
the same as one; a batch the same as its files alone.  Exits with 1 where they do not.  How to build the native
part with the sanitizers: see docs/jpeg_stage.md.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from pathlib import Path

import numpy as np

from jpegdeep_torch.errors import JpegError
from jpegdeep_torch.jpeg import ReadOptions, _native, read_dct, read_dct_batch, read_gray, read_planes, read_rgb
from jpegdeep_torch.jpeg.header import open_jpeg
from jpegdeep_torch.jpeg.options import ON_DAMAGE
from tests.jpeg.fuzz import damage
from tests.jpeg.jpeg_files import SAMPLINGS, pillow_jpeg, random_integers, write_jpeg

SIZES = (8, 33, 64, (40, 120), 150)
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "box")
BATCH = 16


def seeds() -> list[bytes]:
    """Sound files, small, so that a case takes milliseconds under sanitizers too."""
    sizes = [(8, 8), (1, 1), (17, 40), (64, 64), (97, 131), (120, 33)]
    files = []
    for i, (height, width) in enumerate(sizes):
        for subsampling in (0, 1, 2):
            for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}, {"restart_marker_rows": 1},
                            {"optimize": True}):  # fmt: skip
                quality = (30, 75, 98)[(i + subsampling) % 3]
                files.append(pillow_jpeg(height, width, i, subsampling=subsampling, quality=quality, **options))
        files.append(pillow_jpeg(height, width, i, mode="L"))
        files.append(pillow_jpeg(height, width, i, mode="L", progressive=True))
        files.append(pillow_jpeg(height, width, i, mode="L", restart_marker_rows=1))
        files.append(pillow_jpeg(height, width, i, progressive=True, restart_marker_rows=1))
    for sampling in SAMPLINGS.values():
        size, tables = (40, 56), np.full((len(sampling), 64), 3)
        for interval in (0, 1, 7):
            files.append(write_jpeg(random_integers(size, sampling), size, sampling, tables, interval))
    return files


def segments(data: bytearray) -> list[tuple[int, int, int]]:
    """(marker, first byte of the body, end) of the segments before the first scan's data, and of later scans'."""
    found, at = [], 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0, 0xFF) or 0xD0 <= data[at + 1] <= 0xD9:
            at += 1  # data of a scan
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            break
        found.append((data[at + 1], at + 4, end))
        at = end
    return found


def edit(rng: np.random.Generator, data: bytearray) -> None:
    """Another value in a segment that says how the file is to be read."""
    found = [each for each in segments(data) if each[0] in (0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD)]
    if not found:
        return
    marker, start, end = found[rng.integers(len(found))]
    if end <= start:
        return
    if marker in (0xC0, 0xC1, 0xC2) and end - start >= 9:
        kind = rng.integers(3)
        components = range(start + 6, end - 2, 3)
        if kind == 0:  # sampling factors
            data[rng.choice(components) + 1] = int(16 * rng.integers(1, 5) + rng.integers(1, 5))
        elif kind == 1:  # a size near the true one, or at an end of what can be
            at = start + 1 + 2 * int(rng.integers(2))
            side = int.from_bytes(data[at : at + 2], "big") + int(rng.integers(-17, 18))
            side = int(rng.choice([side, side, 0, 1, 7, 9, 300])) % 65536
            data[at : at + 2] = side.to_bytes(2, "big")
        else:
            data[rng.choice(components) + rng.choice([0, 2])] = int(rng.integers(0, 5))
    elif marker == 0xC4 and end - start >= 17:
        if rng.integers(2):  # lengths of codes: one moves to another length
            one, other = start + rng.integers(1, 17, 2)
            if data[one] > 0 and data[other] < 255:
                data[one] -= 1
                data[other] += 1
        else:
            data[rng.integers(start, end)] = int(rng.choice([0, 1, 15, 16, 0xF0, 0xFF, rng.integers(256)]))
    elif marker == 0xDA:  # tables, first and last frequency, bits
        data[rng.integers(start, end)] = int(rng.choice([0, 1, 2, 3, 5, 63, 64, 0x10, 0x11, 0x21, 0xD0, 0xED]))
    elif marker == 0xDD:
        data[start:end] = int(rng.integers(0, 12)).to_bytes(2, "big")
    else:
        data[rng.integers(start, end)] = int(rng.integers(256))


def reread(data: bytearray, rng: np.random.Generator) -> None:
    """Bits of the entropy-coded data alone, which leaves a header that the fast decoders take."""
    scans = [end for marker, _, end in segments(data) if marker == 0xDA]
    start = scans[rng.integers(len(scans))] if scans else 0
    if start < len(data):
        for at in rng.integers(start, len(data), rng.integers(1, 5)):
            data[at] ^= 1 << rng.integers(8)


def mutate(seed: int, case: int, files: list[bytes]) -> bytes:
    rng = np.random.default_rng([seed, case])
    kind = rng.integers(4)
    if kind == 0:
        return damage(rng, files)
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 4)):
        if kind == 1 or (kind == 3 and rng.integers(2)):
            edit(rng, data)
        else:
            reread(data, rng)
    return bytes(data)


def outcome(read, *arguments, **options):
    """What it gives, or the words of its error."""
    try:
        return read(*arguments, **options)
    except (JpegError, _native.DecodeError) as error:
        return str(error)


def raw(data: bytes, on_damage: str, fast: bool, threads: int = 1):
    file = _native.File(data, on_damage, fast)
    planes, tables = file.read(threads)
    return [*planes, tables, np.array(file.image_size)]


def same(a, b) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    a, b = ([x for x in each if x is not None] for each in (a, b))
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def dct(data: bytes, **options):
    read = outcome(read_dct, data, **options)
    return read if isinstance(read, str) else [read.luma, read.chroma]


def check(case: int, data: bytes, counts: collections.Counter) -> list[str]:
    """What is wrong."""
    wrong = []
    try:
        opened = open_jpeg(data).data
    except JpegError:
        opened = data
    big = False
    try:
        height, width = _native.File(opened, "tolerate").image_size
        big = height * width > 4_000_000  # read by one thread alone, or sanitizers take minutes
    except _native.DecodeError:
        pass
    on_damage = ON_DAMAGE[case % 3]
    options = ReadOptions(on_damage=on_damage, max_memory_mb=30 if big else 650)
    if not big:
        for damage_kind in ON_DAMAGE:
            slow = outcome(raw, opened, damage_kind, False)
            counts["read" if not isinstance(slow, str) else "refused"] += 1
            for threads in (1, 2):
                if not same(outcome(raw, opened, damage_kind, True, threads), slow):
                    wrong.append(f"{damage_kind}: {threads} threads read something else than libjpeg")
    planes = [outcome(read_planes, data, options=options, threads=threads) for threads in (1, 2)]
    if isinstance(planes[0], str) != isinstance(planes[1], str):
        wrong.append(f"read_planes: {planes}")
    size = SIZES[case % len(SIZES)]
    antialias = bool(case // 5 % 2)
    one, two = (dct(data, size=size, antialias=antialias, options=options, threads=threads) for threads in (1, 2))
    if not same(one, two):
        wrong.append("read_dct: two threads give something else than one")
    interpolation = INTERPOLATIONS[case % 4]
    outcome(read_rgb, data, size, interpolation=interpolation, options=options,
            channels_first=bool(case % 2), dtype=("uint8", "float32")[case // 2 % 2])  # fmt: skip
    outcome(read_gray, data, size, interpolation=interpolation, options=options)
    return wrong


def check_batch(case: int, files: list[bytes]) -> list[str]:
    size, options = SIZES[case % len(SIZES)], ReadOptions(on_damage=ON_DAMAGE[case % 3], max_memory_mb=30)
    batch = read_dct_batch(files, size, options=options, threads=2)
    wrong = []
    for i, data in enumerate(files):
        alone = dct(data, size=size, options=options)
        if isinstance(alone, str) != (i in batch.errors):
            wrong.append(f"file {i} of the batch: {batch.errors.get(i)}, alone: {alone}")
        elif not isinstance(alone, str):
            chroma = alone[1] if alone[1] is not None else batch.chroma[i]
            if not same([batch.luma[i], batch.chroma[i]], [alone[0], chroma]):
                wrong.append(f"file {i} of the batch is read as something else alone")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
    parser.add_argument("--trace", type=Path, help="the case about to be read is written here first")
    options = parser.parse_args()
    files, counts, failures, batch = seeds(), collections.Counter(), 0, []
    start_s = time.perf_counter()
    for case in range(options.cases):
        if time.perf_counter() - start_s > options.seconds:
            break
        data = mutate(options.seed, case, files) if case >= len(files) else files[case]
        if options.trace:
            options.trace.write_bytes(data)
        wrong = check(case, data, counts)
        batch.append(data)
        if len(batch) == BATCH:
            wrong += check_batch(case, batch)
            batch = []
        counts["cases"] += 1
        for line in wrong:
            failures += 1
            print(f"case {case}: {line}"[:400], flush=True)
    print(f"{dict(counts)}, {failures} wrong, {time.perf_counter() - start_s:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
