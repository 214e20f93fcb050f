"""Threads reading thousands of files: does memory stay flat, and do two cores do twice the work of one?

python tests/jpeg/soak.py --files 10000 --threads 8 [--speed]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from jpeg_files import BCCD, pillow_jpeg  # noqa: E402

from jpegdeep_torch.errors import JpegError  # noqa: E402
from jpegdeep_torch.jpeg import read_dct, read_planes  # noqa: E402


def files() -> list[bytes]:
    """Real ones where there are any, and one in ten cut short: errors must not leak either."""
    sound = [file.read_bytes() for file in sorted(BCCD.glob("*.jpg"))[:90]]
    sound = sound or [pillow_jpeg(480, 640, seed=i % 5, quality=70 + i % 20) for i in range(90)]
    return sound + [data[: len(data) // 2] for data in sound[:10]] + [pillow_jpeg(240, 320, progressive=True)]


def read(data: bytes, case: int) -> None:
    with contextlib.suppress(JpegError):
        read_planes(data) if case % 2 else read_dct(data)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def read_all(data: list[bytes], count: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda i: read(data[i % len(data)], i), range(count), chunksize=1):
            pass


def growth_mb(data: list[bytes], count: int, threads: int) -> float:
    """Resident memory after `count` more files, less that after the first tenth of them."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: read(data[i % len(data)], i), range(max(count // 10, 300))))
        before = resident_mb()
        list(pool.map(lambda i: read(data[i % len(data)], i), range(count)))
        return resident_mb() - before


def speedup(data: list[bytes], threads: int, rounds: int = 7) -> float:
    """Median ratio of throughput with `threads` threads to that of one, in alternating rounds."""
    ratios = []
    for _ in range(rounds):
        times_s = []
        for count in (1, threads):
            start_s = time.perf_counter()
            read_all(data, 600, count)
            times_s.append(time.perf_counter() - start_s)
        ratios.append(times_s[0] / times_s[1])
    return statistics.median(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--speed", action="store_true", help="the speed of the threads, and nothing else")
    options = parser.parse_args()
    data = files()
    if options.speed:
        print(f"{options.threads} threads: {speedup(data, options.threads):.2f} times one thread's throughput")
        return 0
    grown = growth_mb(data, options.files, options.threads)
    print(f"{options.files} files on {options.threads} threads: resident memory grew by {grown:.1f} MB")
    return 1 if grown > 20 else 0


if __name__ == "__main__":
    sys.exit(main())
