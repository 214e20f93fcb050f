"""Damages JPEGs at random and reads them: each must give a picture or a JpegError, in time and in memory.

Coefficients and pixels must be read of the same files.

    python -m tests.jpeg.fuzz --cases 10000 [--seed 0]

Exits with 1 after a case that took too long, too much memory, or raised anything else; a crash ends the process, and
the last case begun is in the file that --trace names.  Under AddressSanitizer: see docs/jpeg_stage.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from jpegdeep_torch.errors import JpegError, UnsupportedCoding
from jpegdeep_torch.jpeg import ReadOptions, read_dct, read_planes
from jpegdeep_torch.jpeg.pixels import DECODERS, decode_rgb
from tests.jpeg.jpeg_files import BCCD, SAMPLINGS, pillow_jpeg, random_integers, write_jpeg

SECONDS, BYTES = 2.0, 2**30


def seeds() -> list[bytes]:
    """Sound files of every kind that can be read."""
    files = [pillow_jpeg(97, 130, seed=i, subsampling=i % 3, quality=60 + 10 * i) for i in range(4)]
    files += [pillow_jpeg(120, 90, progressive=True), pillow_jpeg(64, 200, mode="L", progressive=True)]
    files += [pillow_jpeg(80, 80, mode="L"), pillow_jpeg(100, 99, optimize=True)]
    files += [pillow_jpeg(90, 99, restart_marker_blocks=3)]
    for sampling in SAMPLINGS.values():
        size, tables = (40, 56), np.full((len(sampling), 64), 3)
        files.append(write_jpeg(random_integers(size, sampling), size, sampling, tables))
    return files + [file.read_bytes() for file in sorted(BCCD.glob("*.jpg"))[:4]]


def damage(rng: np.random.Generator, files: list[bytes]) -> bytes:
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 4)):
        if len(data) > 8:
            rng.choice([_flip, _flip_header, _cut, _splice, _resize, _repeat_scans, _segment, _drop])(rng, data, files)
    return bytes(data)


def _flip(rng, data, files):
    for at in rng.integers(0, len(data), rng.integers(1, 30)):
        data[at] ^= 1 << rng.integers(8)


def _flip_header(rng, data, files):
    for at in rng.integers(0, min(len(data), 700), rng.integers(1, 6)):
        data[at] = rng.integers(256)


def _cut(rng, data, files):
    del data[rng.integers(len(data)) :]


def _drop(rng, data, files):
    start = rng.integers(len(data))
    del data[start : start + rng.integers(1, 200)]


def _splice(rng, data, files):
    other = files[rng.integers(len(files))]
    start, at = rng.integers(len(other)), rng.integers(len(data))
    data[at : at + rng.integers(0, 300)] = other[start : start + rng.integers(1, 2000)]


def _resize(rng, data, files):
    """Another size in the frame header: giant, zero or just a little off."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = data.find(marker)
        if at > 0:
            for i, side in enumerate(rng.choice([0, 1, 17, 300, 1000, 8000, 8191, 65500, 65535], 2)):
                data[at + 5 + 2 * i : at + 7 + 2 * i] = int(side).to_bytes(2, "big")


def _repeat_scans(rng, data, files):
    at = data.rfind(b"\xff\xda")
    if at > 0:
        data[-2:] = bytes(data[at : at + rng.integers(8, 400)]) * int(rng.integers(1, 3000)) + b"\xff\xd9"


def _segment(rng, data, files):
    """A marker segment of noise in a likely place."""
    body = rng.integers(0, 256, rng.integers(0, 80), dtype=np.uint8).tobytes()
    marker = rng.choice([0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xCA, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xE0, 0xEE, 0xFE])
    at = data.find(b"\xff\xdb", rng.integers(len(data)))
    at = at if at > 0 else 2
    data[at:at] = bytes([0xFF, int(marker)]) + (len(body) + 2).to_bytes(2, "big") + body


def peak_bytes() -> int:
    """Peak resident memory since `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def run_case(data: bytes, case: int, coefficients: bool) -> str:
    """'read' or 'error', of the file's coefficients or of its pixels."""
    options = ReadOptions(on_damage=("tolerate", "error", "error")[case % 3])
    try:
        if not coefficients:
            decode_rgb(data, decoder=sorted(DECODERS)[case // 2 % len(DECODERS)], size=300, options=options)
        elif case % 2:
            read_planes(data, options=options)
        else:
            read_dct(data, options=options)
    except UnsupportedCoding:
        return "read"  # to be decoded and encoded again
    except JpegError:
        return "error"
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trace", type=Path, help="the case about to be read is written here first")
    parser.add_argument("--slack", type=float, default=1.0, help="both limits times this, for sanitizers")
    options = parser.parse_args()
    files, counts, slowest, largest, failures = seeds(), {"read": 0, "error": 0}, 0.0, 0, 0
    linux = sys.platform == "linux"
    for case in range(options.cases):
        data = damage(np.random.default_rng([options.seed, case]), files)
        if options.trace:
            options.trace.write_bytes(data)
        outcomes = []
        for coefficients in (True, False):
            if linux:
                reset_peak()
            start_s = time.perf_counter()
            outcomes.append(run_case(data, case, coefficients))
            taken_s = time.perf_counter() - start_s
            peak = peak_bytes() if linux else 0
            slowest, largest = max(slowest, taken_s), max(largest, peak)
            if taken_s > SECONDS * options.slack or peak > BYTES * options.slack:
                failures += 1
                print(f"case {case}: {taken_s:.2f} s, {peak / 2**20:.0f} MiB")
        counts[outcomes[0]] += 1
        if len(set(outcomes)) > 1:
            failures += 1
            print(f"case {case}: coefficients {outcomes[0]}, pixels {outcomes[1]}")
    print(f"{counts}, slowest {slowest * 1000:.0f} ms, peak {largest / 2**20:.0f} MiB with the interpreter's own")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
