"""How time and memory grow with threads, workers, batch size and image size."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from eval.benchmark.measure import FEWEST_ROUNDS, take_turns
from eval.benchmark.photos import HEIGHT_PX, WIDTH_PX, mosaic_jpegs
from eval.benchmark.subjects import BenchmarkCase, Network, TimedDetector, make_timed_detector
from eval.study.fits import line, power_law
from eval.study.memory import MemoryPoint, MemoryUse, measure_memory
from jpegdeep_torch.data.loader import PREFETCH
from jpegdeep_torch.presets import Preset
from jpegdeep_torch.utils.environment import threads_set_to
from jpegdeep_torch.weights import save_weights

TILES = (1, 2, 3, 4)  # sides of the mosaics: 0.19 to 3 megapixels
_FILES = 8
_PROCESS_S = 8.0  # to start a process and load a network, for estimates
_TIMES_AHEAD = 8  # the batches timed, for each that may have been read ahead: so much too fast, in part, at the most


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The sizes that are tried."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    threads: tuple[int, ...] = (1, 2)
    workers: tuple[int, ...] = (1, 2)
    tiles: tuple[int, ...] = TILES
    batch_size: int = 8  # where another size is varied


@dataclasses.dataclass(frozen=True)
class Placed:
    """What the networks run on."""

    device: str = "cpu"
    backend: str = "torch"
    precision: str = "float32"

    @property
    def on_cpu(self) -> bool:
        return torch.device(self.device).type == "cpu"

    def subject(self, network: Network, batch_sizes: Sequence[int]) -> TimedDetector:
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
    ways: Sequence[str],
    ladder: Ladder,
    seconds: float,
    placed: Placed = HERE,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[dict[str, Any]]:
    """One row a network, way to coefficients, cost, and size that is varied.

    A row: `model`, `coefficients`, `varies` ('batch', 'threads', 'workers' or 'megapixels'), `cost` with its unit,
    `sizes`, `costs`, and `fit`: `kind` 'power', or 'line' with `start` and `slope`, where a part of the cost does not
    grow; both with `exponent` (of a power law through the same points) and `spread`, the largest relative distance of
    a point from the law of that kind.  `seconds` a point and kind of network.  Images are mosaics of `jpegs`.
    """
    mosaics = {tiles: mosaic_jpegs(jpegs, tiles, _FILES) for tiles in ladder.tiles}
    rows = []
    for name, network in networks.items():
        on_step(f"{name}: batch size")
        rows.append(_by_batch(name, network, ladder, seconds, placed))
        if placed.on_cpu:
            on_step(f"{name}: threads")
            rows.append(_by_threads(name, network, ladder, seconds, placed))
        for way in ways if network.config.is_dct else (None,):
            on_step(f"{name}, {way or 'pixels'}: workers and image size")
            fed = network.read_by(way)
            rows += [_by_workers(name, fed, ladder, mosaics, seconds), _by_megapixels(name, fed, ladder, mosaics)]
        on_step(f"{name}: memory")
        rows += _memory(name, network, ladder, mosaics, placed)
    return rows


def seconds_needed(ladder: Ladder, seconds: float, images_per_s: float, ways: int) -> float:
    """About how long `measure_scaling` takes for a network of that speed, its rows with memory included."""
    sent = sum(ladder.batch_sizes)
    batches = max(seconds * len(ladder.batch_sizes), FEWEST_ROUNDS * sent / images_per_s) + 2 * sent / images_per_s
    slowed = [max(ladder.threads) / threads / images_per_s for threads in ladder.threads]
    threads = sum(max(seconds, 3 * ladder.batch_size * each) + 2 * ladder.batch_size * each for each in slowed)
    reading = ways * (len(ladder.workers) * (seconds + 1) + len(ladder.tiles))
    points = {*_memory_points(ladder, "batch"), *_memory_points(ladder, "megapixels"),
              *_memory_points(ladder, "threads"), *_memory_points(ladder, "workers")}  # fmt: skip
    memory = sum(_PROCESS_S + 4 * batch * max(ladder.threads) / n / images_per_s for batch, _, n, _ in points)
    return batches + threads + reading + memory


def _row(
    name: str,
    preset: Preset | None,
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
    return {"model": name, "coefficients": preset and preset.coefficients, "varies": varies, "cost": cost,
            "sizes": list(sizes), "costs": list(costs), "fit": fit}  # fmt: skip


def _median_ms(samples: Sequence[Any]) -> float:
    """Of one image."""
    ordered = sorted(1e3 * s.seconds / s.images for s in samples)
    return ordered[len(ordered) // 2]


def _by_batch(name: str, network: Network, ladder: Ladder, seconds: float, placed: Placed) -> dict[str, Any]:
    subject = placed.subject(network, ladder.batch_sizes)
    cases = [BenchmarkCase("model", n, True) for n in ladder.batch_sizes]
    samples = take_turns([(subject, case) for case in cases], seconds * len(cases))
    costs = [_median_ms(samples[subject.label, case]) * case.batch_size for case in cases]
    return _row(name, None, "batch", "ms a batch, network with NMS", ladder.batch_sizes, costs)


def _by_threads(name: str, network: Network, ladder: Ladder, seconds: float, placed: Placed) -> dict[str, Any]:
    case, costs = BenchmarkCase("model", ladder.batch_size, False), []
    for threads in ladder.threads:
        with threads_set_to(threads):  # some backends take their number when they are built
            subject = placed.subject(network, (ladder.batch_size,))
            costs.append(_median_ms(take_turns([(subject, case)], seconds)[subject.label, case]))
    return _row(name, None, "threads", "ms an image, network alone", ladder.threads, costs)


def _by_workers(
    name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]], seconds: float
) -> dict[str, Any]:
    """The loader without a network behind it, on large files, where the reading is most of what it does.

    What workers read ahead before the clock started is not counted: as many batches as can be ahead are taken first,
    and many times as many are timed.
    """
    network = dataclasses.replace(network, sources=mosaics[max(mosaics)])
    costs = []
    for workers in ladder.workers:
        batches = iter(network.loader(_FILES, workers))
        ahead = PREFETCH * workers + 1
        for _ in range(ahead):
            next(batches)
        timed, images, started = 0, 0, time.perf_counter()
        while timed < _TIMES_AHEAD * ahead or time.perf_counter() - started < seconds:
            images += len(next(batches))
            timed += 1
        costs.append((time.perf_counter() - started) / images * 1e3)
    cost = f"ms an image of {megapixels(max(mosaics)):.1f} megapixels, reading alone"
    return _row(name, _preset(network), "workers", cost, ladder.workers, costs)


def _preset(network: Network) -> Preset | None:
    """What coefficients come by; pixels have no such choice."""
    return network.preset if network.config.is_dct else None


def _by_megapixels(name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]]) -> dict[str, Any]:
    costs = [reading_ms(network, mosaics[tiles]) for tiles in ladder.tiles]
    sizes = [megapixels(tiles) for tiles in ladder.tiles]
    return _row(name, _preset(network), "megapixels", "ms an image, reading on one core", sizes, costs, linear=True)


def reading_ms(network: Network, jpegs: list[bytes], rounds: int = 5) -> float:
    """Milliseconds an image, from bytes to the batch in this process on one thread: the median of `rounds` batches."""
    batches = iter(dataclasses.replace(network, sources=jpegs).loader(len(jpegs), 0))
    with threads_set_to(1):
        next(batches)
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            next(batches)
            times.append((time.perf_counter() - started) * 1e3 / len(jpegs))
    return sorted(times)[rounds // 2]


def _memory_points(ladder: Ladder, varies: str) -> list[tuple[int, int, int, int]]:
    """(batch size, tiles, threads, workers) of each size of `varies`, the others as where something else is varied."""
    base = {"batch": ladder.batch_size, "megapixels": min(ladder.tiles), "threads": torch.get_num_threads(),
            "workers": 1}  # fmt: skip
    sizes = {"batch": ladder.batch_sizes, "megapixels": ladder.tiles, "threads": ladder.threads,
             "workers": ladder.workers}  # fmt: skip
    return [tuple((base | {varies: size}).values()) for size in sizes[varies]]


def _memory(
    name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]], placed: Placed
) -> list[dict[str, Any]]:
    """MiB above the imported libraries, or of the GPU's, end to end: a row a size that is varied."""
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
        rows.append(_row(name, _preset(network), varies, what, sizes, costs, linear=True))
    return rows
