"""End-to-end speed from its parts: what a worker, the transfer, the network and NMS cost alone, put together.

Per image, reading takes `read` of one core in the process that reads it, and the main process takes
`transfer + network + nms`.  Without workers these follow one another.  With w workers on c cores, three things bound
the time per image, and the largest is that time:

    main + handover / batch + delay * read * t / c     the main process, never waiting
    read / min(w, c)                                   the workers, never waiting
    (busy + read) / c                                  all cores at work: busy is what the main process keeps of them

On a CPU a network of t threads keeps t cores for its time; on a GPU none.  `delay`: its threads share each layer's work
evenly and wait for the slowest, so a core that reads a millisecond holds all of them up for about as long, be the other
cores idle or not.  It is fitted, as is the affine law of each part.

All speeds are of the undisturbed machine: the 90th percentile of the rounds.  Neighbours of a virtual machine may slow
it by half for a while, and a median of few rounds falls on either side, for each setting by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from eval.benchmark.candidates import BenchmarkCase, Sample, TimedDetector
from eval.benchmark.measure import take_turns
from eval.benchmark.networks import Network
from eval.benchmark.photos import mosaic_jpegs
from eval.benchmark.statistics import summary
from eval.study.fits import Line, line
from eval.study.folder import ROUNDS
from eval.study.scaling import HERE, Placed, megapixels
from jpegdeep_torch.utils.environment import machine

_FILES = 8
_SAMPLE_S = 1.0  # a batch of a narrow network is too short to tell its speed from a processor's hiccup


@dataclasses.dataclass(frozen=True)
class Point:
    """One end-to-end setting."""

    network: str  # a key of the networks
    batch_size: int
    workers: int
    tiles: int  # the images are mosaics of tiles x tiles photographs
    coefficients: str | None = None

    @property
    def case(self) -> BenchmarkCase:
        return BenchmarkCase("e2e", self.batch_size, True, self.workers, self.coefficients)


@dataclasses.dataclass(frozen=True)
class Host:
    """What the parts run on.  `threads`: cores that the network keeps busy, 0 where it runs on a GPU."""

    cores: int
    threads: int


@dataclasses.dataclass(frozen=True)
class Parts:
    """Milliseconds per image of each stage; `handover` of a batch from a worker to the main process."""

    read: float
    transfer: float
    network: float
    nms: float
    handover: float = 0.0

    def end_to_end(self, workers: int, host: Host, delay: float = 0.0) -> float:
        """Milliseconds per image; see the formula above."""
        main = self.transfer + self.network + self.nms
        if not workers:
            return self.read + main
        busy = self.transfer + self.nms + self.handover + self.network * host.threads
        return max(
            main + self.handover + delay * self.read * host.threads / host.cores,
            self.read / min(workers, host.cores),
            (busy + self.read) / host.cores,
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """All that is needed to predict: affine laws of the parts, by network and kind of coefficients."""

    host: Host
    network: Mapping[str, Line]  # ms per batch, by batch size
    nms: Mapping[str, float]  # ms per image
    transfer: Mapping[str, float]
    read: Mapping[tuple[str, str | None], Line]  # ms per image, by megapixels
    handover: float  # ms per batch
    delay: float = 0.0

    def parts(self, point: Point) -> Parts:
        n = point.batch_size
        return Parts(
            self.read[point.network, point.coefficients](megapixels(point.tiles)),
            self.transfer[point.network],
            self.network[point.network](n) / n,
            self.nms[point.network],
            self.handover / n,
        )

    def images_per_s(self, point: Point) -> float:
        return 1e3 / self.parts(point).end_to_end(point.workers, self.host, self.delay)


def fitting_points(networks: Mapping[str, Network], kinds: Sequence[str]) -> list[Point]:
    """What is measured to fit: serially at two batch sizes and two image sizes, and with one and two workers."""
    points = []
    for name, network in networks.items():
        for kind in _kinds(network, kinds):
            points += [Point(name, 2, 0, 1, kind), Point(name, 8, 0, 4, kind)]
        points += [Point(name, 8, 1, 1), Point(name, 8, 1, 4), Point(name, 8, 2, 4)]
    return points


def checking_points(networks: Mapping[str, Network], kinds: Sequence[str]) -> list[Point]:
    """What is predicted: batch sizes between those fitted and beyond, other image sizes, each number of workers."""
    points = []
    for i, (name, network) in enumerate(networks.items()):
        for k, kind in enumerate(_kinds(network, kinds)):
            between, beyond = (4, 12) if (i + k) % 2 else (12, 4)
            points += [Point(name, between, 1, 2 + (i + k) % 2, kind), Point(name, beyond, 2 * ((i + k) % 2), 3, kind)]
        points += [Point(name, 4, 2, 2)]
    return points


def seconds_needed(
    networks: Mapping[str, Network], kinds: Sequence[str], seconds: float, images_per_s: Mapping[str, float]
) -> float:
    """About how long `measure_prediction` takes for networks of these speeds."""
    points = [*fitting_points(networks, kinds), *checking_points(networks, kinds)]
    a_round = sum(max(_SAMPLE_S, point.batch_size / images_per_s[point.network]) for point in points)
    return max(seconds * len(points), ROUNDS * a_round) + 2 * a_round


def _kinds(network: Network, kinds: Sequence[str]) -> list[str | None]:
    return [None, *kinds[1:]] if network.config.is_dct else [None]


def measure_points(
    networks: Mapping[str, Network],
    jpegs: Sequence[bytes],
    points: Sequence[Point],
    seconds: float,
    placed: Placed = HERE,
    on_round: Callable[[], None] | None = None,
) -> dict[Point, list[Sample]]:
    """All points in turn, for `seconds` each; images are mosaics of `jpegs`."""
    sizes = sorted({point.batch_size for point in points})
    made = {name: placed.build(network, sizes) for name, network in networks.items()}
    mosaics = {tiles: mosaic_jpegs(jpegs, tiles, _FILES) for tiles in sorted({point.tiles for point in points})}

    def placed_at(point: Point) -> TimedDetector:
        own = made[point.network]
        fed = dataclasses.replace(own.network, sources=mosaics[point.tiles])
        return dataclasses.replace(own, network=fed, label=f"{point.network}, {point.tiles}")

    pairs = [(placed_at(point), point.case) for point in points]
    samples = take_turns(pairs, seconds * len(points), on_round, ROUNDS, _SAMPLE_S)
    return {point: samples[timed.label, case] for point, (timed, case) in zip(points, pairs)}


def images_per_s(samples: Sequence[Sample]) -> float:
    """The 90th percentile: of the undisturbed machine."""
    return summary([sample.images_per_s for sample in samples])["p90"]


def fit(measured: Mapping[Point, Sequence[Sample]], host: Host) -> Model:
    """The model of the points that `fitting_points` lists: parts from the serial runs, the rest from those with
    workers."""
    stages = {point: _stages_ms(samples) for point, samples in measured.items()}
    serial = [point for point in stages if not point.workers]
    names = list(dict.fromkeys(point.network for point in serial))

    def mean(name: str, stage: str) -> float:
        return float(np.mean([stages[point][stage] for point in serial if point.network == name]))

    def law(of: list[Point], size: Callable[[Point], float], cost: Callable[[Point], float]) -> Line:
        return line([size(point) for point in of], [cost(point) for point in of])

    kinds = list(dict.fromkeys((point.network, point.coefficients) for point in serial))
    model = Model(
        host,
        {n: law([p for p in serial if p.network == n], lambda p: p.batch_size,
                lambda p: stages[p]["network"] * p.batch_size) for n in names},
        {n: mean(n, "nms") for n in names},
        {n: mean(n, "transfer") for n in names},
        {kind: law([p for p in serial if (p.network, p.coefficients) == kind], lambda p: megapixels(p.tiles),
                  lambda p: stages[p]["wait"]) for kind in kinds},
        handover=min(stages[p]["wait"] * p.batch_size for p in stages if p.workers),
    )  # fmt: skip
    shared = {point: images_per_s(samples) for point, samples in measured.items() if point.workers}

    def error(delay: float) -> float:
        tried = dataclasses.replace(model, delay=delay)
        return sum(np.log(tried.images_per_s(point) / speed) ** 2 for point, speed in shared.items())

    return dataclasses.replace(model, delay=min(np.arange(0.0, 2.5, 0.01).tolist(), key=error))


def _stages_ms(samples: Sequence[Sample]) -> dict[str, float]:
    """Each stage of an image, as the undisturbed machine has it: the 10th percentile."""
    return {
        stage: summary([sample.stages_ms.get(stage, 0.0) / sample.images for sample in samples])["p10"]
        for stage in ("wait", "transfer", "network", "nms")
    }


def measure_prediction(
    networks: Mapping[str, Network],
    jpegs: Sequence[bytes],
    kinds: Sequence[str],
    seconds: float,
    placed: Placed = HERE,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Fits the model, and holds what it predicts against settings that were not used to fit; all measured in turn.

    Returns:
        'host', 'delay', 'handover_ms' (per batch), 'network_ms' ('start' and 'slope', per batch, by batch size),
        'nms_ms', 'transfer_ms', 'read_ms' ('start' and 'slope', per image, by megapixels).  'checked' and 'fitted' have
        one row per setting: its fields, 'measured' and 'predicted' images/s, 'error' (predicted / measured - 1) and
        'samples'.
    """
    fitting, checking = fitting_points(networks, kinds), checking_points(networks, kinds)
    measured = measure_points(networks, jpegs, [*fitting, *checking], seconds, placed, on_round)
    host = Host(int(machine()["cores"]), torch.get_num_threads() if placed.on_cpu else 0)
    model = fit({point: measured[point] for point in fitting}, host)

    def row(point: Point) -> dict[str, Any]:
        speed, predicted = images_per_s(measured[point]), model.images_per_s(point)
        samples = [sample.images_per_s for sample in measured[point]]
        return {**dataclasses.asdict(point), "measured": speed, "predicted": predicted, "error": predicted / speed - 1,
                "samples": samples}  # fmt: skip

    laws = {f"{name}, {kind}" if kind else name: dataclasses.asdict(law) for (name, kind), law in model.read.items()}
    return {
        "host": dataclasses.asdict(host), "delay": model.delay, "handover_ms": model.handover,
        "network_ms": {name: dataclasses.asdict(law) for name, law in model.network.items()},
        "nms_ms": dict(model.nms), "transfer_ms": dict(model.transfer), "read_ms": laws,
        "fitted": [row(point) for point in fitting], "checked": [row(point) for point in checking],
    }  # fmt: skip
