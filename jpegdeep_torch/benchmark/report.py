"""A throughput run as text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .stats import machine, summary, versions
from .subject import Subject
from .throughput import CellResult

_STAGES = (  # what the end-to-end time of an image is told by: (title, stages that make it up)
    ("read and entropy-decode", ("read", "decode")),
    ("resize or re-encode", ("resize", "reencode")),
    ("collate and transfer", ("transfer",)),
    ("network", ("network",)),
    ("decode and NMS", ("nms",)),
    ("waiting for data", ("wait",)),
)


def table(results: Sequence[CellResult], subjects: Sequence[Subject], pictures: str) -> str:
    """Speeds, ratios, and where an end-to-end image's time goes."""
    lines = [*_heading(subjects, pictures), "", *_speeds(results, subjects)]
    shares = [r for r in results if r.cell.stage == "e2e"]
    if shares:
        largest = max(shares, key=lambda r: (r.cell.nms, r.cell.batch_size))
        lines += ["", *_shares(largest, subjects)]
    return "\n".join(lines)


def _heading(subjects: Sequence[Subject], pictures: str) -> list[str]:
    box, installed = machine(), versions()
    where = box["gpu"] if subjects[0].device.type == "cuda" else f"{box['cpu']}, {torch.get_num_threads()} threads"
    lines = [
        f"{where}; {box['cores']} cores; torch {installed['torch']}, backend {subjects[0].runner.info.name}, "
        f"{subjects[0].runner.precision}",
        f"images: {pictures}",
    ]
    for subject in subjects:
        way = f"coefficients by '{subject.preset.dct}'" if subject.config.is_dct else f"pixels by {subject.decoder}"
        weights = (
            "seeded weights, their background biases such that about 400 scores an image pass 0.01"
            if subject.seeded
            else f"weights of {subject.model.info.source_file or 'a file'}"
        )
        lines.append(f"{subject.config.name}: {way}; {weights}")
    return lines


def _speeds(results: Sequence[CellResult], subjects: Sequence[Subject]) -> list[str]:
    names = [subject.config.name for subject in subjects]
    header = ["images/s (p10 to p90)", "batch", "NMS", *names, *(f"{name} / {names[0]}" for name in names[1:])]
    rows = [header]
    for result in results:
        row = [
            "end to end" if result.cell.stage == "e2e" else "network alone",
            str(result.cell.batch_size),
            "yes" if result.cell.nms else "no",
        ]
        row += [_figure(result.images_per_s(i), 1) for i in range(len(subjects))]
        row += [_figure(result.ratios(i), 2) for i in range(1, len(subjects))]
        rows.append(row)
    return _aligned(rows)


def _shares(result: CellResult, subjects: Sequence[Subject]) -> list[str]:
    cell = result.cell
    who = f"{cell.workers} worker(s), beside the network" if cell.workers else "the main process"
    rows = [[f"ms an image, end to end, batch {cell.batch_size}; data by {who}"] + [s.config.name for s in subjects]]
    stages = [result.stages_ms(i) for i in range(len(subjects))]
    if not cell.workers:  # the wait for data is the reading itself, which stands above it
        stages = [{k: v for k, v in s.items() if k != "wait"} for s in stages]
    totals = [sum(s.seconds for s in samples) / sum(s.images for s in samples) * 1e3 for samples in result.samples]
    for title, parts in _STAGES:
        if any(part in s for part in parts for s in stages):
            values = [sum(s.get(part, 0.0) for part in parts) for s in stages]
            rows.append([title] + [f"{v:.2f} ({v / t:.1%})" for v, t in zip(values, totals)])
    rows.append(["in all"] + [f"{t:.2f}" for t in totals])
    return _aligned(rows)


def _figure(samples: Sequence[float], digits: int) -> str:
    s = summary(samples)
    return f"{s['median']:.{digits}f} ({s['p10']:.{digits}f} to {s['p90']:.{digits}f})"


def _aligned(rows: list[list[str]]) -> list[str]:
    """A Markdown table, columns padded."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return lines
