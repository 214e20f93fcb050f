"""Images per second of several candidates, taken in turn so that a machine's drift falls on all alike."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from eval.benchmark.candidates import BenchmarkCase, Candidate, Convolution, Run, Sample, TimedDetector
from eval.benchmark.statistics import summary
from jpegdeep_torch.data.loader import PREFETCH

FEWEST_ROUNDS = 3
_DATA_BOUND = 0.1  # share of a batch's time spent waiting for data, past which what was read ahead is used up first


@dataclass
class CaseResult:
    """The rounds of one case: samples[label][round], in the order of the candidates."""

    case: BenchmarkCase
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def images_per_s(self, label: str) -> list[float]:
        return [sample.images_per_s for sample in self.samples[label]]

    def ratios(self, label: str, base: str) -> list[float]:
        """Speed of `label` over that of `base`, round by round."""
        return [a / b for a, b in zip(self.images_per_s(label), self.images_per_s(base))]

    def stages_ms(self, label: str) -> dict[str, float]:
        """Milliseconds per image of each stage, over all rounds."""
        images = sum(sample.images for sample in self.samples[label])
        total: Counter[str] = Counter()
        for sample in self.samples[label]:
            total.update(sample.stages_ms)
        return {stage: ms / images for stage, ms in total.items()}

    def ms_per_image(self, label: str) -> float:
        """Over all rounds."""
        samples = self.samples[label]
        return sum(s.seconds for s in samples) / sum(s.images for s in samples) * 1e3


def cases(stages: Sequence[str], batch_sizes: Sequence[int], nms: Sequence[bool], workers: int) -> list[BenchmarkCase]:
    """All combinations but end to end without NMS, which nobody can run."""
    return [
        BenchmarkCase(stage, size, with_nms, workers if stage == "e2e" else 0)
        for stage in stages
        for size in batch_sizes
        for with_nms in nms
        if with_nms or stage == "model"
    ]


def measure(
    candidates: Sequence[Candidate], case: BenchmarkCase, seconds: float, on_round: Callable[[], None] | None = None
) -> CaseResult:
    """Times `candidates` in turn (A B A B ...) in one case; see `take_turns`."""
    return interleave(candidates, (case,), seconds, on_round)[0]


def interleave(
    candidates: Sequence[Candidate],
    plan: Sequence[BenchmarkCase],
    seconds: float,
    on_round: Callable[[], None] | None = None,
    fewest: int = FEWEST_ROUNDS,
) -> list[CaseResult]:
    """Times each of `candidates` in each case of `plan` that it has, all in turn -> one result per case, in order."""
    samples = take_turns([(candidate, case) for case in plan for candidate in candidates], seconds, on_round, fewest)
    return [CaseResult(case, {label: own for (label, of), own in samples.items() if of == case}) for case in plan]


def take_turns(
    pairs: Sequence[tuple[Candidate, BenchmarkCase]],
    seconds: float,
    on_round: Callable[[], None] | None = None,
    fewest: int = FEWEST_ROUNDS,
    sample_s: float = 0.0,
) -> dict[tuple[str, BenchmarkCase], list[Sample]]:
    """Times each candidate in its case, all in turn.

    Args:
        pairs: candidates and cases.  A candidate that has no such case is left out.
        seconds: for all rounds together, after a warm-up.
        on_round: called after the warm-up and after each round.
        fewest: rounds, however long they take.
        sample_s: a sample is one batch, or as many as take about so many seconds.

    Returns:
        The samples by label and case, one per round.
    """
    runs = {(candidate.label, case): run for candidate, case in pairs if (run := candidate.stage(case)) is not None}
    for (_, case), run in runs.items():
        if case.workers:  # they are forked here, which slows the next batch of whoever shares this process's memory
            run(1)
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
                if settle[key]:
                    run(settle[key])
                samples[key].append(run(count[key]))
            rounds += 1
    finally:
        gc.enable()
    return samples


def _settle(run: Run, case: BenchmarkCase) -> tuple[Sample, int]:
    """Warms up -> (a sample of one batch, how many batches to run untimed before each sample).

    While one candidate is timed, the workers of the others read ahead.  Where the network is the slower part, they are
    done at once, and as far ahead at a sample's end as at its beginning.  Where the data is the slower part, a sample
    would start with batches that cost it nothing: they are used up first, and the sample is longer.
    """
    ahead = PREFETCH * case.workers  # batches
    sample = run(1)
    if sample.seconds < 1.0:
        sample = run(1)
    if sample.seconds < 0.2:
        for _ in range(ahead):
            sample = run(1)
    return sample, ahead if sample.stages_ms.get("wait", 0.0) / 1e3 > _DATA_BOUND * sample.seconds else 0


def on_first_backend(candidate: Candidate, candidates: Sequence[Candidate]) -> str | None:
    """The label of the same network on the first backend, where `candidate` is not that itself."""
    if not isinstance(candidate, TimedDetector):
        return None
    first = next(s for s in candidates if isinstance(s, TimedDetector) and s.network is candidate.network)
    return None if first is candidate else first.label


def pairs(result: CaseResult, candidates: Sequence[Candidate]) -> list[tuple[str, str]]:
    """(numerator, denominator) of the ratios that a case tells: each candidate to the first, each network to itself on
    the first backend, and each to other people's."""
    present = [s for s in candidates if s.label in result.samples and not isinstance(s, Convolution)]
    found = [(s.label, present[0].label) for s in present[1:]]
    found += [(s.label, own) for s in present if (own := on_first_backend(s, candidates)) is not None]
    ours = [s for s in present if isinstance(s, TimedDetector)]
    found += [(s.label, peer.label) for peer in present if not isinstance(peer, TimedDetector) for s in ours]
    return list(dict.fromkeys(found))


def convolution_share(
    result: CaseResult, candidate: Candidate, candidates: Sequence[Candidate]
) -> dict[str, float] | None:
    """How much of the machine's own convolution speed the network reaches, where this case tells."""
    for other in candidates:
        if isinstance(other, Convolution) and other.detector is candidate and other.label in result.samples:
            return summary(other.efficiency(result.samples[candidate.label], result.samples[other.label]))
    return None


def case_json(result: CaseResult, candidates: Sequence[Candidate]) -> tuple[list[dict], list[dict]]:
    """(one result per candidate, one ratio per pair), as docs/design.md lays them down."""
    case = result.case
    settings = {"batch_size": case.batch_size, "stage": case.stage, "nms": case.nms, "workers": case.workers}
    rows = []
    for candidate in candidates:
        if candidate.label not in result.samples or isinstance(candidate, Convolution):
            continue
        samples = result.images_per_s(candidate.label)
        about = _detector_json(candidate, case) if isinstance(candidate, TimedDetector) else {"model": candidate.label}
        speed = {"images_per_s": summary(samples), "samples": samples, "stages_ms": result.stages_ms(candidate.label)}
        rows.append(about | settings | speed)
        if (reached := convolution_share(result, candidate, candidates)) is not None:
            rows[-1]["convolution_speed_reached"] = reached
    ratios = []
    for numerator, denominator in pairs(result, candidates):
        samples = result.ratios(numerator, denominator)
        about = {"numerator": numerator, "denominator": denominator}
        ratios.append(about | settings | summary(samples) | {"samples": samples})
    return rows, ratios


def _detector_json(detector: TimedDetector, case: BenchmarkCase) -> dict[str, object]:
    network = detector.network.read_by(case.coefficients)
    return {
        "model": network.config.name, "backend": detector.backend, "device": str(detector.runner.device),
        "precision": detector.runner.precision, "preset": network.preset.name, "coefficients": network.coefficients,
        "decoder": None if network.coefficients == "native" else network.decoder, "seeded_weights": network.seeded,
        "build_seconds": detector.build_seconds, "largest_difference": detector.difference.largest,
    }  # fmt: skip
