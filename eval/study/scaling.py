"""How time and memory grow with batch size, threads, workers and image size: measured, and fitted by a law."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from eval.benchmark.candidates import BenchmarkCase, TimedDetector, make_timed_detector
from eval.benchmark.measure import FEWEST_ROUNDS, take_turns
from eval.benchmark.networks import Network
from eval.benchmark.photos import HEIGHT_PX, WIDTH_PX, mosaic_jpegs
from eval.benchmark.threads import threads_set_to
from eval.study.fits import line, power_law
from eval.study.memory import MemoryPoint, MemoryUse, measure_memory
from jpegdeep_torch.data.loader import PREFETCH
from jpegdeep_torch.weights import save_weights

TILES = (1, 2, 3, 4)  # sides of the mosaics: 0.19 to 3 megapixels
_FILES = 8
_PROCESS_S = 8.0  # to start a process and load a network, for estimates
# Batches that were ready when the clock started make a figure too fast: for each of them, so many are timed.
_TIMES_AHEAD = 8


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The values of each size that are tried.  `batch_size` is that of all rows in which another size is varied."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    threads: tuple[int, ...] = (1, 2)
    workers: tuple[int, ...] = (1, 2)
    tiles: tuple[int, ...] = TILES
    batch_size: int = 8


@dataclasses.dataclass(frozen=True)
class Placed:
    """What the networks run on."""

    device: str = "cpu"
    backend: str = "torch"
    precision: str = "float32"

    @property
    def on_cpu(self) -> bool:
        return torch.device(self.device).type == "cpu"

    def build(self, network: Network, batch_sizes: Sequence[int]) -> TimedDetector:
        """The network, built for these batch sizes."""
        return make_timed_detector(network, self.backend, self.device, self.precision, batch_sizes)


HERE = Placed()


def doubling(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `most` itself."""
    return tuple(sorted({2**i for i in range(most.bit_length())} | {most}))


def megapixels(tiles: int) -> float:
    return tiles * tiles * WIDTH_PX * HEIGHT_PX / 1e6


def measure_scaling(
    networks: dict[str, Network],
    jpegs: Sequence[bytes],
    kinds: Sequence[str],
    ladder: Ladder,
    seconds: float,
    placed: Placed = HERE,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[dict[str, Any]]:
    """Varies one size at a time, and measures a cost at each of its values.

    Args:
        jpegs: the images are mosaics of these.
        kinds: of coefficients; networks on pixels are measured once.
        ladder: the values of each size.
        seconds: per value and network.
        on_step: called with what begins.

    Returns:
        One row per network, kind of coefficients, cost and size that is varied, with these keys:
        'model', 'coefficients';
        'varies': 'batch', 'threads', 'workers' or 'megapixels', and 'sizes': its values;
        'cost': what was measured, with its unit, and 'costs': one per value;
        'fit': the law through these points.  Its 'kind' is 'power' (with 'at_one'), or 'line' (with 'start' and
        'slope') for a cost of which a part does not grow.  Of both, 'exponent' is that of a power law, and 'spread' the
        largest relative distance of a point from the law.
    """
    mosaics = {tiles: mosaic_jpegs(jpegs, tiles, _FILES) for tiles in ladder.tiles}
    rows = []
    for name, network in networks.items():
        on_step(f"{name}: batch size")
        rows.append(_by_batch(name, network, ladder, seconds, placed))
        if placed.on_cpu:
            on_step(f"{name}: threads")
            rows.append(_by_threads(name, network, ladder, seconds, placed))
        for kind in kinds if network.config.is_dct else (None,):
            on_step(f"{name}, {kind or 'pixels'}: workers and image size")
            fed = network.read_by(kind)
            rows += [_by_workers(name, fed, ladder, mosaics, seconds), _by_megapixels(name, fed, ladder, mosaics)]
        on_step(f"{name}: memory")
        rows += _memory(name, network, ladder, mosaics, placed)
    return rows


def seconds_needed(ladder: Ladder, seconds: float, images_per_s: float, kinds: int) -> float:
    """About how long `measure_scaling` takes for a network of that speed, its rows with memory included."""
    sent = sum(ladder.batch_sizes)
    batches = max(seconds * len(ladder.batch_sizes), FEWEST_ROUNDS * sent / images_per_s) + 2 * sent / images_per_s
    slowed = [max(ladder.threads) / threads / images_per_s for threads in ladder.threads]
    threads = sum(max(seconds, 3 * ladder.batch_size * each) + 2 * ladder.batch_size * each for each in slowed)
    reading = kinds * (len(ladder.workers) * (seconds + 1) + len(ladder.tiles))
    points = {*_memory_points(ladder, "batch"), *_memory_points(ladder, "megapixels"),
              *_memory_points(ladder, "threads"), *_memory_points(ladder, "workers")}  # fmt: skip
    memory = sum(_PROCESS_S + 4 * batch * max(ladder.threads) / n / images_per_s for batch, _, n, _ in points)
    return batches + threads + reading + memory


def _row(
    name: str,
    coefficients: str | None,
    varies: str,
    cost: str,
    sizes: Sequence[float],
    costs: Sequence[float],
    linear: bool = False,
) -> dict[str, Any]:
    fit = {"kind": "one point"}
    if len(sizes) > 1:
        power = power_law(sizes, costs)
        fitted = line(sizes, costs) if linear else power
        fit = {"kind": "line" if linear else "power", **dataclasses.asdict(fitted), "exponent": power.exponent}
    return {"model": name, "coefficients": coefficients, "varies": varies, "cost": cost,
            "sizes": list(sizes), "costs": list(costs), "fit": fit}  # fmt: skip


def _median_ms(samples: Sequence[Any]) -> float:
    """Of a sample, per image."""
    ordered = sorted(1e3 * s.seconds / s.images for s in samples)
    return ordered[len(ordered) // 2]


def _by_batch(name: str, network: Network, ladder: Ladder, seconds: float, placed: Placed) -> dict[str, Any]:
    built = placed.build(network, ladder.batch_sizes)
    cases = [BenchmarkCase("model", n, True) for n in ladder.batch_sizes]
    samples = take_turns([(built, case) for case in cases], seconds * len(cases))
    costs = [_median_ms(samples[built.label, case]) * case.batch_size for case in cases]
    return _row(name, None, "batch", "ms per batch, network with NMS", ladder.batch_sizes, costs)


def _by_threads(name: str, network: Network, ladder: Ladder, seconds: float, placed: Placed) -> dict[str, Any]:
    case, costs = BenchmarkCase("model", ladder.batch_size, False), []
    for threads in ladder.threads:
        with threads_set_to(threads):  # some backends take their number when they are built
            built = placed.build(network, (ladder.batch_size,))
            costs.append(_median_ms(take_turns([(built, case)], seconds)[built.label, case]))
    return _row(name, None, "threads", "ms per image, network alone", ladder.threads, costs)


def _by_workers(
    name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]], seconds: float
) -> dict[str, Any]:
    """A Detector's `read` alone, of large files, where reading is most of the work.

    As many batches as workers can be ahead are taken first, so that the clock does not start with what was ready.
    """
    network = dataclasses.replace(network, sources=mosaics[max(mosaics)])
    costs = []
    for workers in ladder.workers:
        batches = network.detector(_FILES, workers=workers).read(network.endless())
        ahead = PREFETCH * workers + 1
        for _ in range(ahead):
            next(batches)
        timed, images, started = 0, 0, time.perf_counter()
        while timed < _TIMES_AHEAD * ahead or time.perf_counter() - started < seconds:
            images += len(next(batches))
            timed += 1
        costs.append((time.perf_counter() - started) / images * 1e3)
    cost = f"ms per image of {megapixels(max(mosaics)):.1f} megapixels, reading alone"
    return _row(name, network.coefficients, "workers", cost, ladder.workers, costs)


def _by_megapixels(name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]]) -> dict[str, Any]:
    costs = [reading_ms(network, mosaics[tiles]) for tiles in ladder.tiles]
    sizes = [megapixels(tiles) for tiles in ladder.tiles]
    return _row(
        name, network.coefficients, "megapixels", "ms per image, reading on one core", sizes, costs, linear=True
    )


def reading_ms(network: Network, jpegs: list[bytes], rounds: int = 5) -> float:
    """Milliseconds per image, from bytes to batch, on one thread of this process: the median of `rounds` batches."""
    batches = network.detector(len(jpegs), workers=0).read(itertools.cycle(jpegs))
    with threads_set_to(1):
        next(batches)
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            next(batches)
            times.append((time.perf_counter() - started) * 1e3 / len(jpegs))
    return sorted(times)[rounds // 2]


def _memory_points(ladder: Ladder, varies: str) -> list[tuple[int, int, int, int]]:
    """(batch size, tiles, threads, workers) for each value of the size `varies`; the other three stay at their base."""
    base = {"batch": ladder.batch_size, "megapixels": min(ladder.tiles), "threads": torch.get_num_threads(),
            "workers": 1}  # fmt: skip
    sizes = {"batch": ladder.batch_sizes, "megapixels": ladder.tiles, "threads": ladder.threads,
             "workers": ladder.workers}  # fmt: skip
    return [tuple((base | {varies: size}).values()) for size in sizes[varies]]


def _memory(
    name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]], placed: Placed
) -> list[dict[str, Any]]:
    """MiB above the imported libraries, or of the GPU, end to end: one row per size that is varied."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        save_weights(network.model, weights)
        for tiles, jpegs in mosaics.items():
            (Path(folder) / str(tiles)).mkdir()
            for i, data in enumerate(jpegs):
                (Path(folder) / str(tiles) / f"{i}.jpg").write_bytes(data)

        @cache
        def used(batch_size: int, tiles: int, threads: int, workers: int) -> MemoryUse:
            return measure_memory(MemoryPoint(
                str(weights), f"{folder}/{tiles}", batch_size, workers, threads, network.preset.coefficients,
                **dataclasses.asdict(placed),
            ))  # fmt: skip

        found = {
            varies: [used(*point) for point in _memory_points(ladder, varies)]
            for varies in ("batch", "megapixels", "threads", "workers")
            if placed.on_cpu or varies in ("batch", "megapixels")
        }
    rows = []
    for varies, uses in found.items():
        if not placed.on_cpu:
            what, costs = "MiB of the GPU, end to end", [use.gpu for use in uses]
        elif varies in ("megapixels", "workers"):
            what, costs = "MiB with the workers', end to end", [use.peak + use.workers for use in uses]
        else:
            what, costs = "MiB above imported libraries, end to end", [use.peak for use in uses]
        sizes = {"batch": ladder.batch_sizes, "megapixels": [megapixels(tiles) for tiles in ladder.tiles],
                 "threads": ladder.threads, "workers": ladder.workers}[varies]  # fmt: skip
        rows.append(_row(name, network.coefficients, varies, what, sizes, costs, linear=True))
    return rows
