"""A throughput run as text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eval.benchmark.measure import CaseResult, convolution_share, on_first_backend
from eval.benchmark.statistics import summary
from eval.benchmark.subjects import Convolution, Timed, TimedDetector
from jpegdeep_torch.utils.environment import machine, versions
from jpegdeep_torch.utils.text_table import aligned

STAGES = (  # what the end-to-end time of an image is told by: (title, stages that make it up)
    ("read and entropy-decode", ("read", "decode")),
    ("resize or re-encode", ("resize", "reencode")),
    ("collate and transfer", ("transfer",)),
    ("network", ("network",)),
    ("decode and NMS", ("nms",)),
    ("waiting for data", ("wait",)),
)


def table(results: Sequence[CaseResult], subjects: Sequence[Timed], pictures: str) -> str:
    """Speeds, ratios, and where an end-to-end image's time goes."""
    lines = [
        *_heading([s for s in subjects if isinstance(s, TimedDetector)], pictures),
        "",
        *_speeds(results, subjects),
    ]
    lines += _builds(results, subjects)
    shares = [r for r in results if r.case.stage == "e2e"]
    if shares:
        largest = max(shares, key=lambda r: (r.case.nms, r.case.batch_size))
        lines += ["", *_shares(largest, subjects)]
    return "\n".join(lines)


def _heading(subjects: Sequence[TimedDetector], pictures: str) -> list[str]:
    box, installed, first = machine(), versions(), subjects[0]
    gpu = first.runner.device.type == "cuda"
    where = box["gpu"] if gpu else f"{box['cpu']}, {box['cores']} cores, {torch.get_num_threads()} threads"
    lines = [f"{where}; torch {installed['torch']}; {first.runner.precision}", f"images: {pictures}"]
    for network in {id(s.network): s.network for s in subjects}.values():
        way = f"pixels by {network.decoder}"
        if network.config.is_dct:
            way = f"coefficients by '{network.preset.coefficients}'"
        weights = "seeded weights, about 400 scores an image past 0.01"
        if not network.seeded:
            weights = f"weights of {network.model.info.source_file or 'a file'}"
        lines.append(f"{network.config.name}: {way}; {weights}")
    return lines


def _speeds(results: Sequence[CaseResult], subjects: Sequence[Timed]) -> list[str]:
    shown = [s for s in subjects if not isinstance(s, Convolution)]
    first = shown[0].label
    several = len({s.backend for s in shown if isinstance(s, TimedDetector)}) > 1
    rows = [["", "batch", "NMS", "detector", "images/s (p10 to p90)", f"ratio to {first}"]]
    peers = [s.label for s in shown if not isinstance(s, TimedDetector)]
    if several:
        rows[0].append("to itself on the first backend")
    rows[0] += [f"to {peer}" for peer in peers]
    for result in results:
        for subject in [s for s in shown if s.label in result.samples]:
            label, own = subject.label, on_first_backend(subject, shown)
            row = [
                "end to end" if result.case.stage == "e2e" else "network alone",
                str(result.case.batch_size),
                "yes" if result.case.nms else "no",
                label,
                speed_text(result.images_per_s(label), 1),
                speed_text(result.ratios(label, first), 2) if label != first else "",
            ]
            if several:
                row.append(speed_text(result.ratios(label, own), 2) if own else "")
            for peer in peers:
                row.append(
                    speed_text(result.ratios(label, peer), 2) if peer in result.samples and label != peer else ""
                )
            rows.append(row)
    return aligned(rows)


def _builds(results: Sequence[CaseResult], subjects: Sequence[Timed]) -> list[str]:
    """What each backend took to build, how far it is from eager float32, and how much of the machine it uses."""
    rows = [["detector", "build, s", "largest difference from eager float32", "of the machine's convolution speed"]]
    for subject in subjects:
        if not isinstance(subject, TimedDetector):
            continue
        reached = [share for r in results if (share := convolution_share(r, subject, subjects)) is not None]
        rows.append(
            [
                subject.label,
                f"{subject.build_seconds:.1f}",
                f"{subject.difference.largest:.1e}",
                f"{reached[0]['median']:.2f}" if reached else "",
            ]
        )
    return ["", *aligned(rows)]


def _shares(result: CaseResult, subjects: Sequence[Timed]) -> list[str]:
    case = result.case
    labels = [s.label for s in subjects if isinstance(s, TimedDetector)]
    who = f"{case.workers} worker(s), beside the network" if case.workers else "the main process"
    rows = [[f"ms an image, end to end, batch {case.batch_size}; data by {who}", *labels]]
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
