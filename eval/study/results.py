"""A study's rows, as its files hold them, and what they tell: ratios, stages, what binds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.benchmark.report import STAGES
from eval.study.plan import Matrix
from jpegdeep_torch.models import model_config

Row = dict[str, Any]
_READING = ("read", "decode", "resize", "reencode")  # what a worker does, beside the network
_MAIN = {"data": "wait", "transfer": "transfer", "network": "network", "NMS": "nms"}  # what the main process waits for


@dataclass(frozen=True)
class Rows:
    """All results of a study."""

    rows: Sequence[Row]
    matrix: Matrix

    @property
    def detectors(self) -> list[str]:
        return [m for m in self.matrix.models if any(row["model"] == m for row in self.rows)]

    @property
    def rgb(self) -> str | None:
        """The first network on pixels: what ratios are to."""
        return next((m for m in self.detectors if not model_config(m).is_dct), None)

    @property
    def dct(self) -> list[str]:
        return [m for m in self.detectors if model_config(m).is_dct]

    @property
    def peers(self) -> list[str]:
        return list(dict.fromkeys(row["model"] for row in self.rows if "backend" not in row))

    def find(
        self,
        model: str,
        stage: str,
        batch_size: int,
        nms: bool,
        workers: int | None = None,
        coefficients: str | None = None,
        backend: str | None = None,
        block: str | None = None,
    ) -> Row | None:
        """The first row of these settings; those left out are the base's.  A peer has one of each stage and batch."""
        matrix = self.matrix
        wanted = {"model": model, "stage": stage, "batch_size": batch_size, "nms": nms}
        if block is not None:
            wanted["block"] = block
        if model not in self.peers:
            wanted["backend"] = backend or matrix.backends[0]
            wanted["workers"] = 0 if stage == "model" else matrix.workers[0] if workers is None else workers
            if model_config(model).is_dct:
                wanted["coefficients"] = coefficients or matrix.coefficients[0]
        return next((row for row in self.rows if all(row.get(k) == v for k, v in wanted.items())), None)

    def among_workers(self, model: str, batch_size: int, workers: int, coefficients: str | None = None) -> Row | None:
        """End to end with NMS, where possible from the block in which all numbers of workers took turns.

        The base was measured before that too, at another time, when the machine may have had another speed.
        """
        of = model, "e2e", batch_size, True, workers, coefficients
        return self.find(*of, block=f"varied-{batch_size}") or self.find(*of)

    def beside(self, row: Row, model: str) -> Row | None:
        """The row of `model` that was taken in turn with `row`, otherwise of the same settings."""
        return self.find(model, row["stage"], row["batch_size"], row["nms"], row["workers"],
                         backend=row.get("backend"), block=row["block"])  # fmt: skip


def ratio_samples(row: Row, base: Row) -> list[float]:
    """Speed of `row` over that of `base`, round by round."""
    return [a / b for a, b in zip(row["samples"], base["samples"])]


def wall_ms(row: Row) -> float:
    """Per image, all stages that the main process goes through; the network alone has no wait.

    On a GPU, stages that overlap are counted in full.
    """
    return sum(row["stages_ms"].get(stage, 0.0) for stage in _MAIN.values())


def reading_ms(row: Row) -> float:
    """Per image, of one worker."""
    return sum(row["stages_ms"].get(stage, 0.0) for stage in _READING)


@dataclass(frozen=True)
class Binding:
    """The stage that an image waits for longest, and the time that would be left were that stage free."""

    stage: str
    stage_ms: float
    wall_ms: float
    without_ms: float

    @property
    def share(self) -> float:
        return self.stage_ms / self.wall_ms


def binding(row: Row) -> Binding:
    """The stage that binds an end-to-end row.

    Were it free, the others would remain; but no image comes sooner than the workers can read it.
    """
    stages = {title: row["stages_ms"].get(key, 0.0) for title, key in _MAIN.items()}
    stage = max(stages, key=stages.get)
    without = wall_ms(row) - stages[stage]
    if stage != "data" and row["workers"]:
        without = max(without, reading_ms(row) / row["workers"])
    return Binding(stage, stages[stage], wall_ms(row), without)


def stage_times(row: Row) -> dict[str, tuple[float, bool]]:
    """{title: (ms per image, whether a worker spends it beside the main process)}, titles as the report has them."""
    hidden = {title for title, keys in STAGES if set(keys) & set(_READING)} if row["workers"] else set()
    found = {}
    for title, keys in STAGES:
        ms = sum(row["stages_ms"].get(key, 0.0) for key in keys)
        if "wait" in keys and not row["workers"]:  # the reading itself, told above
            ms = max(0.0, ms - reading_ms(row))
        if ms:
            found[title] = ms, title in hidden
    return found
