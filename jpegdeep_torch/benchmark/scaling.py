"""How time and memory grow with threads, workers, batch size and image size."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.dataset import PREFETCH
from ..presets import Preset
from ..weights import save_weights
from .fits import line, power_law
from .memory import MemoryPoint, measure_memory
from .photos import HEIGHT_PX, WIDTH_PX, mosaic_jpegs
from .stats import threads_set_to
from .subject import Cell, Network, make_subject
from .throughput import take_turns

TILES = (1, 2, 3, 4)  # sides of the mosaics: 0.19 to 3 megapixels
_FILES = 8
_TIMES_AHEAD = 8  # the batches timed, for each that may have been read ahead: so much too fast, in part, at the most


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The sizes that are tried."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    threads: tuple[int, ...] = (1, 2)
    workers: tuple[int, ...] = (1, 2)
    tiles: tuple[int, ...] = TILES
    batch_size: int = 8  # where another size is varied


def doubling(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `most` itself."""
    return tuple(sorted({2**i for i in range(most.bit_length())} | {most}))


def megapixels(tiles: int) -> float:
    return tiles * tiles * WIDTH_PX * HEIGHT_PX / 1e6


def measure_scaling(
    networks: dict[str, Network],
    ways: Sequence[str],
    ladder: Ladder,
    seconds: float,
    device: str = "cpu",
    on_step: Callable[[str], None] = lambda what: None,
) -> list[dict[str, Any]]:
    """One row a network, way to coefficients and size that is varied.

    A row: `model`, `dct`, `varies` ('batch', 'threads', 'workers' or 'megapixels'), `cost` with its unit, `sizes`,
    `costs`, and `fit`: `kind` 'power' with `exponent`, or 'line' with `start` and `slope`, each with `spread`, the
    largest relative distance of a point from it.  `seconds` a point and kind of network.
    """
    mosaics = {tiles: mosaic_jpegs(tiles, _FILES) for tiles in ladder.tiles}
    rows = []
    for name, network in networks.items():
        on_step(f"{name}: batch size")
        rows.append(_by_batch(name, network, ladder, seconds, device))
        if device == "cpu":
            on_step(f"{name}: threads")
            rows.append(_by_threads(name, network, ladder, seconds))
        for way in ways if network.config.is_dct else (None,):
            on_step(f"{name}, {way or 'pixels'}: workers and image size")
            fed = network.read_by(way)
            rows += [_by_workers(name, fed, ladder, mosaics, seconds), _by_megapixels(name, fed, ladder, mosaics)]
        if device == "cpu":
            on_step(f"{name}: memory")
            rows += _memory(name, network, ladder, mosaics)
    return rows


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
        fitted = (line if linear else power_law)(sizes, costs)
        fit = {"kind": "line" if linear else "power", **dataclasses.asdict(fitted)}
    return {"model": name, "dct": preset and preset.dct, "varies": varies, "cost": cost, "sizes": list(sizes),
            "costs": list(costs), "fit": fit}  # fmt: skip


def _median_ms(samples: Sequence[Any]) -> float:
    """Of one image."""
    ordered = sorted(1e3 * s.seconds / s.images for s in samples)
    return ordered[len(ordered) // 2]


def _by_batch(name: str, network: Network, ladder: Ladder, seconds: float, device: str) -> dict[str, Any]:
    subject = make_subject(network, "torch", device, "float32", ladder.batch_sizes)
    cells = [Cell("model", n, True) for n in ladder.batch_sizes]
    samples = take_turns([(subject, cell) for cell in cells], seconds * len(cells))
    costs = [_median_ms(samples[subject.label, cell]) * cell.batch_size for cell in cells]
    return _row(name, None, "batch", "ms a batch, network with NMS", ladder.batch_sizes, costs)


def _by_threads(name: str, network: Network, ladder: Ladder, seconds: float) -> dict[str, Any]:
    subject = make_subject(network, "torch", "cpu", "float32", (ladder.batch_size,))
    cell, costs = Cell("model", ladder.batch_size, False), []
    for threads in ladder.threads:
        with threads_set_to(threads):
            costs.append(_median_ms(take_turns([(subject, cell)], seconds)[subject.label, cell]))
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


def _memory(name: str, network: Network, ladder: Ladder, mosaics: dict[int, list[bytes]]) -> list[dict[str, Any]]:
    """MiB above the imported libraries, end to end with one worker: by batch size, and by image size."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        save_weights(network.model, weights)
        for tiles, jpegs in mosaics.items():
            (Path(folder) / str(tiles)).mkdir()
            for i, data in enumerate(jpegs):
                (Path(folder) / str(tiles) / f"{i}.jpg").write_bytes(data)

        def used(batch_size: int, tiles: int) -> tuple[float, float]:
            use = measure_memory(MemoryPoint(str(weights), f"{folder}/{tiles}", batch_size,
                                             threads=torch.get_num_threads(), dct=network.preset.dct))  # fmt: skip
            return use.peak, use.workers

        smallest = min(mosaics)
        by_batch = [used(n, smallest)[0] for n in ladder.batch_sizes]
        sizes = [tiles for tiles in ladder.tiles if tiles in (smallest, max(mosaics))]
        by_pixels = [sum(used(ladder.batch_size, tiles)) for tiles in sizes]
    what = "MiB above imported libraries, end to end"
    preset = _preset(network)
    return [
        _row(name, preset, "batch", what, ladder.batch_sizes, by_batch, linear=True),
        _row(name, preset, "megapixels", f"{what}, with the worker's",
             [megapixels(t) for t in sizes], by_pixels, linear=True),
    ]  # fmt: skip
