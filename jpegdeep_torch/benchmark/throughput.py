"""Images per second of several detectors, taken in turn so that a machine's drift falls on all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .stats import summary
from .subject import Sample, Subject, end_to_end_stage, model_stage

FEWEST_ROUNDS = 3
_DATA_BOUND = 0.1  # share of a batch's time spent waiting for data, past which what was read ahead is used up first


@dataclass(frozen=True)
class Cell:
    """One comparison: all subjects at these settings."""

    stage: str  # 'model' or 'e2e'
    batch_size: int
    nms: bool
    workers: int = 0  # e2e only

    def __str__(self) -> str:
        return f"{self.stage}, batch {self.batch_size}, {'with' if self.nms else 'without'} NMS"


@dataclass
class CellResult:
    """The rounds of one cell: samples[subject][round]."""

    cell: Cell
    samples: list[list[Sample]] = field(default_factory=list)

    def images_per_s(self, subject: int) -> list[float]:
        return [sample.images_per_s for sample in self.samples[subject]]

    def ratios(self, subject: int, base: int = 0) -> list[float]:
        """Speed of `subject` over that of `base`, round by round."""
        return [a / b for a, b in zip(self.images_per_s(subject), self.images_per_s(base))]

    def stages_ms(self, subject: int) -> dict[str, float]:
        """Milliseconds an image and stage, over all rounds."""
        images = sum(sample.images for sample in self.samples[subject])
        total: dict[str, float] = {}
        for sample in self.samples[subject]:
            for stage, ms in sample.stages_ms.items():
                total[stage] = total.get(stage, 0.0) + ms
        return {stage: ms / images for stage, ms in total.items()}


def cells(stages: Sequence[str], batch_sizes: Sequence[int], nms: Sequence[bool], workers: int) -> list[Cell]:
    """All combinations."""
    return [
        Cell(stage, size, with_nms, workers if stage == "e2e" else 0)
        for stage in stages
        for size in batch_sizes
        for with_nms in nms
    ]


def measure(
    subjects: Sequence[Subject], cell: Cell, seconds: float, on_round: Callable[[float], None] | None = None
) -> CellResult:
    """Times `subjects` in turn (A B A B ...) for about `seconds`, after a warm-up; at least 3 rounds.

    `on_round` is called with the seconds that each round took, the warm-up's too.
    """
    runs = [_prepare(subject, cell) for subject in subjects]
    started = time.perf_counter()
    settle = [_settle(run, cell) for run in runs]
    if on_round is not None:
        on_round(time.perf_counter() - started)
    result = CellResult(cell, [[] for _ in subjects])
    started = time.perf_counter()
    gc.collect()
    gc.disable()  # its pauses would fall on one of the two
    try:
        while len(result.samples[0]) < FEWEST_ROUNDS or time.perf_counter() - started < seconds:
            begun = time.perf_counter()
            for run, batches, samples in zip(runs, settle, result.samples):
                for _ in range(batches):
                    run()
                samples.append(run() if not batches else _merged(run() for _ in range(2 * batches)))
            if on_round is not None:
                on_round(time.perf_counter() - begun)
    finally:
        gc.enable()
    return result


def _prepare(subject: Subject, cell: Cell) -> Callable[[], Sample]:
    if cell.stage == "model":
        return model_stage(subject, cell.batch_size, cell.nms)
    return end_to_end_stage(subject, cell.batch_size, cell.nms, cell.workers)


def _settle(run: Callable[[], Sample], cell: Cell) -> int:
    """Warms up -> batches to run untimed before each sample.

    While one subject is timed, the workers of the others read ahead.  Where the network is the slower part, they are
    done at once and as far ahead at a sample's end as at its beginning.  Where the data is, a sample would start with
    batches that cost it nothing: they are used up first, and the sample is longer.
    """
    ahead = 2 * cell.workers
    first = run()
    if first.seconds < 1.0:
        first = run()
    if not ahead:
        return 0
    samples = [run() for _ in range(ahead + 1)] if first.seconds < 0.2 else [first]
    last = samples[-1]
    return ahead if last.stages_ms["wait"] / 1e3 > _DATA_BOUND * last.seconds else 0


def _merged(samples: Iterator[Sample]) -> Sample:
    whole = Sample(0, 0.0)
    for sample in samples:
        whole.images += sample.images
        whole.seconds += sample.seconds
        for stage, ms in sample.stages_ms.items():
            whole.stages_ms[stage] = whole.stages_ms.get(stage, 0.0) + ms
    return whole


def cell_json(result: CellResult, subjects: Sequence[Subject]) -> tuple[list[dict], list[dict]]:
    """(one result a subject, one ratio a subject but the first), as DESIGN.md lays them down."""
    cell = result.cell
    rows = []
    for i, subject in enumerate(subjects):
        samples = result.images_per_s(i)
        rows.append(
            {
                "model": subject.config.name,
                "backend": subject.runner.info.name,
                "device": str(subject.device),
                "precision": subject.runner.precision,
                "batch_size": cell.batch_size,
                "stage": cell.stage,
                "nms": cell.nms,
                "workers": cell.workers,
                "preset": subject.preset.name,
                "dct": subject.preset.dct if subject.config.is_dct else None,
                "seeded_weights": subject.seeded,
                "build_seconds": subject.runner.build_seconds,
                "images_per_s": summary(samples),
                "samples": samples,
                "stages_ms": result.stages_ms(i),
            }
        )
    ratios = [
        {
            "numerator": subjects[i].config.name,
            "denominator": subjects[0].config.name,
            "stage": cell.stage,
            "batch_size": cell.batch_size,
            "nms": cell.nms,
            "samples": result.ratios(i),
            **summary(result.ratios(i)),
        }
        for i in range(1, len(subjects))
    ]
    return rows, ratios
