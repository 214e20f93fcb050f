"""A study's folder: the finished blocks, one file each, and what it takes to measure those that are missing.

A study that was stopped goes on with the blocks that are missing.
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

from eval.benchmark.candidates import Candidate, TimedDetector, make_timed_detector
from eval.benchmark.measure import case_json, interleave
from eval.benchmark.networks import Network, make_network
from eval.study.plan import Block, Matrix, blocks
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.errors import DatasetError, JpegDeepError
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import current_name
from jpegdeep_torch.utils.environment import machine, versions
from jpegdeep_torch.utils.files import sha256_of, write_json
from jpegdeep_torch.utils.settings import changed_settings

SETTINGS_FILE = "settings.json"
BLOCKS_FOLDER = "blocks"
ROUNDS = 5  # of a block, at least
_OLD_KEYS = {"dct": "coefficients", "presets": "coefficients", "pictures": "images"}  # before version 0.2
_WARM_UP = 2  # batches of a run before its first sample, for estimates
_START_S = 0.5  # to start a worker, for estimates


@dataclass(frozen=True)
class StudySettings:
    """All that a study's figures hang on beside its matrix."""

    device: str = "cpu"
    precision: str = "float32"
    seconds: float = 6.0  # per run, of which there are at least `ROUNDS`
    decoder: str = DEFAULT_DECODER
    seed: int = 0
    weights: dict[str, str] = field(default_factory=dict)  # model: safetensors file


class StudyFolder:
    """The folder, the plan, and the networks once they are needed."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        matrix: Matrix,
        setting: StudySettings,
        sources: Sequence[Source],
        *,
        images: dict[str, Any],
        peers: Callable[[], Iterable[Candidate]] = tuple,
        peer_names: Sequence[str] = (),
    ):
        """
        Args:
            images: what `sources` are: their number, a digest.
            peers: makes other people's detectors, when they are needed.

        Raises:
            DatasetError: the folder holds a study of other settings, or of another machine.
        """
        self.folder, self.matrix, self.setting, self.sources = Path(folder), matrix, setting, list(sources)
        self._make_peers, self._peers = peers, None
        self._networks: dict[str, Network] = {}
        self._timed: dict[tuple[str, str, tuple[int, ...]], TimedDetector] = {}
        self.settings = json.loads(json.dumps({
            "matrix": asdict(matrix), "setting": asdict(setting), "images": images, "peers": list(peer_names),
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
        """Measures what is missing.

        A block that cannot be done before `deadline`, by what is known of its networks, is left out.  The first block
        of all is done whatever it takes, so that there is something to tell.

        Args:
            deadline: of time.monotonic().
            on_block: called with each block that begins.
            on_round: called after each round.
            most: the first so many of the missing blocks alone.

        Returns:
            The blocks still missing, for which there was no time.
        """
        for block in self.missing()[:most]:
            rows = self.rows()
            if deadline is not None and rows and time.monotonic() + self._estimate(block, rows) > deadline:
                continue
            on_block(block)
            candidates = self._candidates(block)
            results = interleave(candidates, block.cases, self._seconds(block), on_round, ROUNDS)
            finished: dict[str, Any] = {"block": block.name, "results": [], "ratios": []}
            for result in results:
                own, ratios = case_json(result, candidates)
                finished["results"] += own
                finished["ratios"] += ratios
            write_json(self.path(block), finished)
        return self.missing()

    def _seconds(self, block: Block) -> float:
        """For a block's rounds together: `seconds` for each run on the fastest of its backends."""
        return self.setting.seconds * len(block.cases) * len(block.backends)

    def _candidates(self, block: Block) -> list[Candidate]:
        candidates: list[Candidate] = [
            self._timed_detector(model, backend, block.batch_size)
            for model in self.matrix.models
            for backend in block.backends
        ]
        if block.peers:
            if self._peers is None:
                self._peers = list(self._make_peers())
            candidates += self._peers
        return candidates

    def _timed_detector(self, model: str, backend: str, batch_size: int) -> TimedDetector:
        sizes = self.matrix.batch_sizes if backend == "torch" else (batch_size,)  # eager serves all from one copy
        key = model, backend, sizes
        if key not in self._timed:
            setting, alone = self.setting, len(self.matrix.backends) == 1
            self._timed[key] = make_timed_detector(
                self.network(model), backend, setting.device, setting.precision, sizes, alone=alone
            )
        return self._timed[key]

    def network(self, model: str) -> Network:
        """The network called `model`, with the base's coefficients."""
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
    """Makes the folder with its settings, or holds those that it has against `settings`.

    Raises DatasetError where they differ, or where the folder is not a study's.
    """
    path = folder / SETTINGS_FILE
    if path.exists():
        there = read_json(path)
        if different := changed_settings(there, settings):
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


def read_json(path: Path) -> dict[str, Any]:
    """A file of a study, in the words of today's.  Raises JpegDeepError where it cannot be read."""
    try:
        return json.loads(path.read_bytes(), object_hook=_current)
    except (OSError, ValueError) as error:
        raise JpegDeepError(f"{path}: not a readable file of a study ({error})") from None


def _current(table: dict[str, Any]) -> dict[str, Any]:
    """A JSON object of an older study, with the keys and the names of coefficients that it would have today."""
    current = {_OLD_KEYS.get(key, key): value for key, value in table.items()}
    if "coefficients" in current:
        names = current["coefficients"]
        current["coefficients"] = [*map(current_name, names)] if isinstance(names, list) else current_name(names)
    return current
