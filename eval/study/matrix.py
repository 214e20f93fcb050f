"""The whole matrix (networks, backends, batch sizes, NMS, stages, ways to coefficients, workers), within a time budget.

The matrix is cut into blocks.  The runs of a block are taken in turn, so that a machine's drift falls on all alike, and
a finished block is one file: a study that was stopped goes on with the blocks that are missing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from eval.benchmark.measure import case_json, interleave
from eval.benchmark.subjects import BenchmarkCase, Network, Timed, TimedDetector, make_network, make_timed_detector
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.errors import DatasetError, JpegDeepError
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.utils.environment import machine, versions
from jpegdeep_torch.utils.files import sha256_of, write_json
from jpegdeep_torch.utils.settings import differences

SETTINGS_FILE = "settings.json"
BLOCKS_FOLDER = "blocks"
ROUNDS = 5  # of a block, at least
_WARM_UP = 2  # batches of a run before its first sample, for estimates
_START_S = 0.5  # to start a worker, for estimates


@dataclass(frozen=True)
class Matrix:
    """What is to be measured.  The first backend, way to coefficients, and number of workers are the base, from which
    the others are told apart; so is `base_batch`."""

    models: tuple[str, ...]
    backends: tuple[str, ...] = ("torch",)
    batch_sizes: tuple[int, ...] = (1, 8)
    base_batch: int = 8
    coefficients: tuple[str, ...] = ("native", "reencode")
    workers: tuple[int, ...] = (1, 0, 2)

    def __post_init__(self) -> None:
        for name in ("models", "backends", "batch_sizes", "presets", "workers"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise DatasetError(f"{name} of a study are {list(values)}, expected one or more, each once")
        if min(self.batch_sizes) < 1 or min(self.workers) < 0:
            raise DatasetError("batch sizes of a study must be at least 1, workers at least 0")
        if self.base_batch not in self.batch_sizes:
            raise DatasetError(f"base batch {self.base_batch} is not among the batch sizes {list(self.batch_sizes)}")


@dataclass(frozen=True)
class Block:
    """Runs that are taken in turn: each network on each of these backends in each of these cases."""

    name: str
    backends: tuple[str, ...]
    cases: tuple[BenchmarkCase, ...]
    peers: bool = False

    @property
    def batch_size(self) -> int:
        return self.cases[0].batch_size


def blocks(matrix: Matrix) -> list[Block]:
    """The whole matrix, what a reader would miss most first: the base, the other batch sizes, one change at a time, and
    last what differs from the base in several ways."""
    first, others = matrix.backends[:1], matrix.backends[1:]
    sizes = sorted(matrix.batch_sizes, key=lambda n: (n != matrix.base_batch, n))
    plan = [Block(f"core-{n}", matrix.backends if n == matrix.base_batch else first, core(matrix, n), True)
            for n in sizes]  # fmt: skip
    plan += [Block(f"varied-{n}", first, varied(matrix, n)) for n in sizes[:1]]
    if others:
        plan += [Block(f"core-{n}-others", others, core(matrix, n)) for n in sizes[1:]]
    plan += [Block(f"varied-{n}", first, varied(matrix, n)) for n in sizes[1:]]
    if others:
        plan += [Block(f"varied-{n}-others", others, varied(matrix, n)) for n in sizes]
    return plan


def core(matrix: Matrix, batch_size: int) -> tuple[BenchmarkCase, ...]:
    """The network alone without and with NMS, and end to end as the base is."""
    workers = matrix.workers[0]
    return (
        BenchmarkCase("model", batch_size, False),
        BenchmarkCase("model", batch_size, True),
        BenchmarkCase("e2e", batch_size, True, workers),
    )


def varied(matrix: Matrix, batch_size: int) -> tuple[BenchmarkCase, ...]:
    """All end-to-end cases, and of the core what they are held against: those runs are then taken in turn too."""
    ways = (None, *matrix.coefficients[1:])
    every = [
        BenchmarkCase("e2e", batch_size, nms, w, way) for nms in (True, False) for way in ways for w in matrix.workers
    ]
    return BenchmarkCase("model", batch_size, False), BenchmarkCase("model", batch_size, True), *every


@dataclass(frozen=True)
class Setting:
    """All that a study's figures hang on beside its matrix."""

    device: str = "cpu"
    precision: str = "float32"
    seconds: float = 6.0  # a run, at least `ROUNDS` of them
    decoder: str = DEFAULT_DECODER
    seed: int = 0
    weights: dict[str, str] = field(default_factory=dict)  # model: safetensors file


class Study:
    """One folder of finished blocks, and what is needed to measure those that are missing."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        matrix: Matrix,
        setting: Setting,
        sources: Sequence[Source],
        *,
        pictures: dict[str, Any],
        peers: Callable[[], Iterable[Timed]] = tuple,
        peer_names: Sequence[str] = (),
    ):
        """`pictures` says what `sources` are (their number, a digest); `peers` makes other people's detectors, when
        they are needed.  DatasetError where the folder holds a study of other settings, or of another machine.
        """
        self.folder, self.matrix, self.setting, self.sources = Path(folder), matrix, setting, list(sources)
        self._make_peers, self._peers = peers, None
        self._networks: dict[str, Network] = {}
        self._subjects: dict[tuple[str, str, tuple[int, ...]], TimedDetector] = {}
        self.settings = json.loads(json.dumps({
            "matrix": asdict(matrix), "setting": asdict(setting), "pictures": pictures, "peers": list(peer_names),
            "weights_sha256": {model: sha256_of(file) for model, file in setting.weights.items()},
            "threads": torch.get_num_threads(), "machine": machine(), "versions": versions(),
        }))  # fmt: skip
        claim_folder(self.folder, self.settings)

    def path(self, block: Block) -> Path:
        return self.folder / BLOCKS_FOLDER / f"{block.name}.json"

    def missing(self) -> list[Block]:
        return [block for block in blocks(self.matrix) if not self.path(block).exists()]

    def rows(self) -> list[dict[str, Any]]:
        """The results of all finished blocks, each with its `block`."""
        return self._collected("results")

    def ratios(self) -> list[dict[str, Any]]:
        return self._collected("ratios")

    def _collected(self, what: str) -> list[dict[str, Any]]:
        found = []
        for block in blocks(self.matrix):
            if self.path(block).exists():
                found += [row | {"block": block.name} for row in read_json(self.path(block))[what]]
        return found

    def run(
        self,
        deadline: float | None = None,
        on_block: Callable[[Block], None] = lambda block: None,
        on_round: Callable[[], None] | None = None,
        most: int | None = None,
    ) -> list[Block]:
        """Measures what is missing, or the first `most` of it -> the blocks still missing, for which there was no time
        before `deadline` (of time.monotonic()).  A block that cannot be done in time by what is known of its networks
        is left out; the first block of all is done whatever it takes, so that there is something to tell.  `on_block`
        is called with each block that begins.
        """
        for block in self.missing()[:most]:
            rows = self.rows()
            if deadline is not None and rows and time.monotonic() + self._estimate(block, rows) > deadline:
                continue
            on_block(block)
            subjects = self._block_subjects(block)
            results = interleave(subjects, block.cases, self._seconds(block), on_round, ROUNDS)
            finished: dict[str, Any] = {"block": block.name, "results": [], "ratios": []}
            for result in results:
                own, ratios = case_json(result, subjects)
                finished["results"] += own
                finished["ratios"] += ratios
            write_json(self.path(block), finished)
        return self.missing()

    def _seconds(self, block: Block) -> float:
        """For a block's rounds together: `seconds` for each run on the fastest of its backends."""
        return self.setting.seconds * len(block.cases) * len(block.backends)

    def _block_subjects(self, block: Block) -> list[Timed]:
        subjects: list[Timed] = [
            self._subject(model, backend, block.batch_size)
            for model in self.matrix.models
            for backend in block.backends
        ]
        if block.peers:
            if self._peers is None:
                self._peers = list(self._make_peers())
            subjects += self._peers
        return subjects

    def _subject(self, model: str, backend: str, batch_size: int) -> TimedDetector:
        sizes = self.matrix.batch_sizes if backend == "torch" else (batch_size,)  # eager serves all from one copy
        key = model, backend, sizes
        if key not in self._subjects:
            setting, alone = self.setting, len(self.matrix.backends) == 1
            self._subjects[key] = make_timed_detector(
                self.network(model), backend, setting.device, setting.precision, sizes, alone=alone
            )
        return self._subjects[key]

    def network(self, model: str) -> Network:
        """The network called `model`, by the base's way to coefficients."""
        if model not in self._networks:
            setting = self.setting
            self._networks[model] = make_network(
                model, self.sources, weights=setting.weights.get(model), coefficients=self.matrix.coefficients[0],
                decoder=setting.decoder, seed=setting.seed,
            )  # fmt: skip
        return self._networks[model]

    def images_per_s(self, model: str, backend: str | None = None) -> float:
        """The slowest speed that `model` has shown so far, on `backend` if it ran there; KeyError for none yet."""
        rows = [row for row in self.rows() if row["model"] == model]
        rows = [row for row in rows if row.get("backend") == backend] or rows
        if not rows:
            raise KeyError(model)
        return min(row["images_per_s"]["median"] for row in rows)

    def _estimate(self, block: Block, rows: list[dict[str, Any]]) -> float:
        """Seconds that a block will take, by what its networks took so far."""
        a_round, start = 0.0, 0.0
        for model in self.matrix.models:
            for backend in block.backends:
                cases = [c for c in block.cases if c.coefficients is None or model_config(model).is_dct]
                a_round += len(cases) * block.batch_size / self.images_per_s(model, backend)
                start += _START_S * sum(case.workers for case in cases)
                if backend != "torch":
                    start += max((r["build_seconds"] for r in rows if r.get("backend") == backend), default=0.0)
        if block.peers:
            runs = {(r["model"], r["stage"], r["nms"]) for r in rows if "backend" not in r}
            a_round += sum(block.batch_size / self.images_per_s(model) for model, _, _ in runs)
        return start + _WARM_UP * a_round + max(ROUNDS * a_round, self._seconds(block))


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder with its settings, or holds those that it has against `settings`.  DatasetError."""
    path = folder / SETTINGS_FILE
    if path.exists():
        there = read_json(path)
        different = [f"{key} was {_short(a)}, is {_short(b)}" for key, a, b in differences(there, settings)]
        if different:
            raise DatasetError(
                f"{folder} holds a study of other settings, which cannot go on with these: {'; '.join(different)}; "
                "give another folder with -o"
            )
        return
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DatasetError(f"{folder}: neither empty nor a study's folder; give another one with -o")
        (folder / BLOCKS_FOLDER).mkdir(parents=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be made a study's folder ({error.strerror or error})") from None
    write_json(path, settings)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_json(path: Path) -> dict[str, Any]:
    """A file of the study's own; JpegDeepError where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise JpegDeepError(f"{path}: not a readable file of a study ({error})") from None
