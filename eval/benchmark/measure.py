"""Images per second of several detectors, taken in turn so that a machine's drift falls on all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from eval.benchmark.statistics import summary
from eval.benchmark.subjects import BenchmarkCase, Convolution, Sample, Timed, TimedDetector

FEWEST_ROUNDS = 3
_DATA_BOUND = 0.1  # share of a batch's time spent waiting for data, past which what was read ahead is used up first


@dataclass
class CaseResult:
    """The rounds of one case: samples[label][round], in the order of the subjects."""

    case: BenchmarkCase
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def images_per_s(self, label: str) -> list[float]:
        return [sample.images_per_s for sample in self.samples[label]]

    def ratios(self, label: str, base: str) -> list[float]:
        """Speed of `label` over that of `base`, round by round."""
        return [a / b for a, b in zip(self.images_per_s(label), self.images_per_s(base))]

    def stages_ms(self, label: str) -> dict[str, float]:
        """Milliseconds an image and stage, over all rounds."""
        images = sum(sample.images for sample in self.samples[label])
        total: dict[str, float] = {}
        for sample in self.samples[label]:
            _add(total, sample.stages_ms)
        return {stage: ms / images for stage, ms in total.items()}

    def ms_per_image(self, label: str) -> float:
        """Over all rounds."""
        samples = self.samples[label]
        return sum(s.seconds for s in samples) / sum(s.images for s in samples) * 1e3


def cases(stages: Sequence[str], batch_sizes: Sequence[int], nms: Sequence[bool], workers: int) -> list[BenchmarkCase]:
    """All combinations."""
    return [
        BenchmarkCase(stage, size, with_nms, workers if stage == "e2e" else 0)
        for stage in stages
        for size in batch_sizes
        for with_nms in nms
    ]


def measure(
    subjects: Sequence[Timed], case: BenchmarkCase, seconds: float, on_round: Callable[[], None] | None = None
) -> CaseResult:
    """Times `subjects` in turn (A B A B ...) in one case; see `take_turns`."""
    return interleave(subjects, (case,), seconds, on_round)[0]


def interleave(
    subjects: Sequence[Timed],
    plan: Sequence[BenchmarkCase],
    seconds: float,
    on_round: Callable[[], None] | None = None,
    fewest: int = FEWEST_ROUNDS,
) -> list[CaseResult]:
    """Times each of `subjects` in each case of `plan` that it has, all in turn -> a result a case, in their order."""
    samples = take_turns([(subject, case) for case in plan for subject in subjects], seconds, on_round, fewest)
    return [CaseResult(case, {label: own for (label, of), own in samples.items() if of == case}) for case in plan]


def take_turns(
    pairs: Sequence[tuple[Timed, BenchmarkCase]],
    seconds: float,
    on_round: Callable[[], None] | None = None,
    fewest: int = FEWEST_ROUNDS,
    sample_s: float = 0.0,
) -> dict[tuple[str, BenchmarkCase], list[Sample]]:
    """Times each subject in its case, all in turn, for about `seconds` after a warm-up; at least `fewest` rounds.

    A sample is a batch, or as many as take about `sample_s`.

    `on_round` is called after the warm-up and after each round.  Gives samples by label and case, but for subjects that
    have no such case.
    """
    runs = {(subject.label, case): run for subject, case in pairs if (run := subject.stage(case)) is not None}
    for (_, case), run in runs.items():
        if case.workers:  # they are forked here, which slows the next batch of whoever shares this process's memory
            run()
    settle, count = {}, {}
    for key, run in runs.items():
        last, settle[key] = _settle(run, key[1])
        count[key] = max(1, 2 * settle[key], math.ceil(sample_s / last.seconds))
    samples: dict[tuple[str, BenchmarkCase], list[Sample]] = {key: [] for key in runs}
    rounds, started = 0, time.perf_counter()
    gc.collect()
    gc.disable()  # its pauses would fall on one of them
    try:
        while rounds < fewest or time.perf_counter() - started < seconds:
            if on_round is not None:
                on_round()
            for key, run in runs.items():
                for _ in range(settle[key]):
                    run()
                samples[key].append(_merged(run() for _ in range(count[key])))
            rounds += 1
    finally:
        gc.enable()
    return samples


def _settle(run: Callable[[], Sample], case: BenchmarkCase) -> tuple[Sample, int]:
    """Warms up -> (the last batch, how many to run untimed before each sample).

    While one subject is timed, the workers of the others read ahead.  Where the network is the slower part, they are
    done at once and as far ahead at a sample's end as at its beginning.  Where the data is, a sample would start with
    batches that cost it nothing: they are used up first, and the sample is longer.
    """
    ahead = 2 * case.workers  # batches, PyTorch's default
    sample = run()
    if sample.seconds < 1.0:
        sample = run()
    if sample.seconds < 0.2:
        for _ in range(ahead):
            sample = run()
    return sample, ahead if sample.stages_ms.get("wait", 0.0) / 1e3 > _DATA_BOUND * sample.seconds else 0


def _merged(samples: Iterator[Sample]) -> Sample:
    whole = Sample(0, 0.0)
    for sample in samples:
        whole.images += sample.images
        whole.seconds += sample.seconds
        _add(whole.stages_ms, sample.stages_ms)
    return whole


def _add(total: dict[str, float], stages_ms: dict[str, float]) -> None:
    for stage, ms in stages_ms.items():
        total[stage] = total.get(stage, 0.0) + ms


def on_first_backend(subject: Timed, subjects: Sequence[Timed]) -> str | None:
    """The label of the same network on the first backend, where `subject` is not that itself."""
    if not isinstance(subject, TimedDetector):
        return None
    first = next(s for s in subjects if isinstance(s, TimedDetector) and s.network is subject.network)
    return None if first is subject else first.label


def pairs(result: CaseResult, subjects: Sequence[Timed]) -> list[tuple[str, str]]:
    """(numerator, denominator) of the ratios that a case tells: each subject to the first, each network to itself on
    the first backend, and each to other people's."""
    present = [s for s in subjects if s.label in result.samples and not isinstance(s, Convolution)]
    found = [(s.label, present[0].label) for s in present[1:]]
    found += [(s.label, own) for s in present if (own := on_first_backend(s, subjects)) is not None]
    ours = [s for s in present if isinstance(s, TimedDetector)]
    found += [(s.label, peer.label) for peer in present if not isinstance(peer, TimedDetector) for s in ours]
    return list(dict.fromkeys(found))


def convolution_share(result: CaseResult, subject: Timed, subjects: Sequence[Timed]) -> dict[str, float] | None:
    """How much of the machine's own convolution speed the network reaches, where this case tells."""
    for other in subjects:
        if isinstance(other, Convolution) and other.subject is subject and other.label in result.samples:
            return summary(other.efficiency(result.samples[subject.label], result.samples[other.label]))
    return None


def case_json(result: CaseResult, subjects: Sequence[Timed]) -> tuple[list[dict], list[dict]]:
    """(one result a subject, one ratio a pair), as DESIGN.md lays them down."""
    case = result.case
    settings = {"batch_size": case.batch_size, "stage": case.stage, "nms": case.nms, "workers": case.workers}
    rows = []
    for subject in subjects:
        if subject.label not in result.samples or isinstance(subject, Convolution):
            continue
        samples = result.images_per_s(subject.label)
        about = _subject_json(subject, case) if isinstance(subject, TimedDetector) else {"model": subject.label}
        speed = {"images_per_s": summary(samples), "samples": samples, "stages_ms": result.stages_ms(subject.label)}
        rows.append(about | settings | speed)
        if (reached := convolution_share(result, subject, subjects)) is not None:
            rows[-1]["convolution_speed_reached"] = reached
    ratios = []
    for numerator, denominator in pairs(result, subjects):
        samples = result.ratios(numerator, denominator)
        about = {"numerator": numerator, "denominator": denominator}
        ratios.append(about | settings | summary(samples) | {"samples": samples})
    return rows, ratios


def _subject_json(subject: TimedDetector, case: BenchmarkCase) -> dict[str, object]:
    network = subject.network.read_by(case.coefficients)
    coefficients = network.preset.coefficients if network.config.is_dct else None
    return {
        "model": network.config.name,
        "backend": subject.backend,
        "device": str(subject.runner.device),
        "precision": subject.runner.precision,
        "preset": network.preset.name,
        "coefficients": coefficients,
        "decoder": None if coefficients == "native" else network.decoder,
        "seeded_weights": network.seeded,
        "build_seconds": subject.build_seconds,
        "largest_difference": subject.difference.largest,
    }
