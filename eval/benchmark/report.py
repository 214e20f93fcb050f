"""A throughput run as text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eval.benchmark.candidates import Candidate, Convolution, TimedDetector
from eval.benchmark.markdown import aligned
from eval.benchmark.measure import CaseResult, convolution_share, on_first_backend
from eval.benchmark.statistics import summary
from jpegdeep_torch.utils.environment import machine, versions

STAGES = (  # what the end-to-end time of an image is told by: (title, stages that make it up)
    ("read and entropy-decode", ("read", "decode")),
    ("resize or re-encode", ("resize", "reencode")),
    ("collate and transfer", ("transfer",)),
    ("network", ("network",)),
    ("decode and NMS", ("nms",)),
    ("waiting for data", ("wait",)),
)


def table(results: Sequence[CaseResult], candidates: Sequence[Candidate], images: str) -> str:
    """Speeds, ratios, and where an end-to-end image's time goes."""
    lines = [*_heading([c for c in candidates if isinstance(c, TimedDetector)], images), ""]
    lines += _speeds(results, candidates) + _builds(results, candidates)
    shares = [r for r in results if r.case.stage == "e2e"]
    if shares:
        largest = max(shares, key=lambda r: (r.case.nms, r.case.batch_size))
        lines += ["", *_shares(largest, candidates)]
    return "\n".join(lines)


def _heading(candidates: Sequence[TimedDetector], images: str) -> list[str]:
    box, installed, first = machine(), versions(), candidates[0]
    gpu = first.runner.device.type == "cuda"
    where = box["gpu"] if gpu else f"{box['cpu']}, {box['cores']} cores, {torch.get_num_threads()} threads"
    lines = [f"{where}; torch {installed['torch']}; {first.runner.precision}", f"images: {images}"]
    for network in {id(s.network): s.network for s in candidates}.values():
        inputs = f"pixels by {network.decoder}"
        if network.config.is_dct:
            inputs = f"coefficients by '{network.preset.coefficients}'"
        weights = "seeded weights, about 400 scores per image past 0.01"
        if not network.seeded:
            weights = f"weights of {network.model.info.source_file or 'a file'}"
        lines.append(f"{network.config.name}: {inputs}; {weights}")
    return lines


def _speeds(results: Sequence[CaseResult], candidates: Sequence[Candidate]) -> list[str]:
    shown = [c for c in candidates if not isinstance(c, Convolution)]
    first, peers = shown[0].label, [c.label for c in shown if not isinstance(c, TimedDetector)]
    several = len({c.backend for c in shown if isinstance(c, TimedDetector)}) > 1
    rows = [["", "batch", "NMS", "detector", "images/s (p10 to p90)", f"ratio to {first}",
             *(["to itself on the first backend"] if several else []), *(f"to {peer}" for peer in peers)]]  # fmt: skip
    for result in results:

        def ratio(label: str, base: str | None, result: CaseResult = result) -> str:
            told = base in result.samples and base != label
            return speed_text(result.ratios(label, base), 2) if told else ""

        stage = "end to end" if result.case.stage == "e2e" else "network alone"
        settings = [stage, str(result.case.batch_size), "yes" if result.case.nms else "no"]
        for candidate in [c for c in shown if c.label in result.samples]:
            label = candidate.label
            bases = [first, *([on_first_backend(candidate, shown)] if several else []), *peers]
            speed = speed_text(result.images_per_s(label), 1)
            rows.append([*settings, label, speed, *(ratio(label, base) for base in bases)])
    return aligned(rows)


def _builds(results: Sequence[CaseResult], candidates: Sequence[Candidate]) -> list[str]:
    """What each backend took to build, how far it is from eager float32, and how much of the machine it uses."""
    rows = [["detector", "build, s", "largest difference from eager float32", "of the machine's convolution speed"]]
    for one in [c for c in candidates if isinstance(c, TimedDetector)]:
        reached = [share for r in results if (share := convolution_share(r, one, candidates)) is not None]
        share = f"{reached[0]['median']:.2f}" if reached else ""
        rows.append([one.label, f"{one.build_seconds:.1f}", f"{one.difference.largest:.1e}", share])
    return ["", *aligned(rows)]


def _shares(result: CaseResult, candidates: Sequence[Candidate]) -> list[str]:
    case = result.case
    labels = [s.label for s in candidates if isinstance(s, TimedDetector)]
    who = f"{case.workers} worker(s), beside the network" if case.workers else "the main process"
    rows = [[f"ms per image, end to end, batch {case.batch_size}; data by {who}", *labels]]
    stages = [result.stages_ms(label) for label in labels]
    if not case.workers:  # the wait for data is the reading itself, which stands above it
        stages = [{k: v for k, v in s.items() if k != "wait"} for s in stages]
    totals = [result.ms_per_image(label) for label in labels]
    for title, parts in STAGES:
        if any(part in s for part in parts for s in stages):
            values = [sum(s.get(part, 0.0) for part in parts) for s in stages]
            rows.append([title] + [f"{v:.2f} ({v / t:.1%})" for v, t in zip(values, totals)])
    rows.append(["in all"] + [f"{t:.2f}" for t in totals])
    return aligned(rows)


def speed_text(samples: Sequence[float], digits: int) -> str:
    """'median (p10 to p90)'."""
    s = summary(samples)
    return f"{s['median']:.{digits}f} ({s['p10']:.{digits}f} to {s['p90']:.{digits}f})"
