"""A throughput run as a plot."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from eval.benchmark.axes import COLOURS, bare_axes, legend_above
from eval.benchmark.candidates import Candidate, Convolution, TimedDetector
from eval.benchmark.figures import new_figure, save_figure
from eval.benchmark.measure import CaseResult
from eval.benchmark.statistics import summary


def plot(
    results: Sequence[CaseResult], candidates: Sequence[Candidate], path: str | os.PathLike[str], title: str
) -> None:
    """Bars of images/s, one group per case, whiskers from 10th to 90th percentile, the ratio to the first above.

    The ending of `path` says the format: .png, .svg or .pdf.  DatasetError where matplotlib is missing.
    """
    shown = [s for s in candidates if not isinstance(s, Convolution)]
    width = 0.8 / len(shown)
    figure = new_figure(max(5.0, 2 + 0.6 * len(results) * len(shown)), 4.2)  # room for the title
    (axes,) = bare_axes(figure)
    for i, candidate in enumerate(shown):
        groups = [(g, result) for g, result in enumerate(results) if candidate.label in result.samples]
        speeds = [summary(result.images_per_s(candidate.label)) for _, result in groups]
        middle = np.array([s["median"] for s in speeds])
        whiskers = [middle - [s["p10"] for s in speeds], [s["p90"] for s in speeds] - middle]
        places = [g + (i - (len(shown) - 1) / 2) * width for g, _ in groups]
        axes.bar(places, middle, width, yerr=whiskers, capsize=2, label=_label(candidate), color=COLOURS[i % 10])
        for (_, result), place, speed in zip(groups if i else (), places, speeds):
            ratio = summary(result.ratios(candidate.label, shown[0].label))["median"]
            above = {"textcoords": "offset points", "ha": "center"}
            axes.annotate(f"x{ratio:.2f}", (place, speed["p90"]), (0, 3), **above)
    axes.set_xticks(range(len(results)), [_case_label(result) for result in results])
    axes.set_ylabel("images/s")
    figure.suptitle(title, fontsize=9)
    axes.margins(y=0.15)
    legend_above(axes)
    save_figure(figure, path)


def _label(candidate: Candidate) -> str:
    if not isinstance(candidate, TimedDetector):
        return candidate.label
    coefficients = candidate.network.coefficients
    return f"{candidate.label} ({f'coefficients, {coefficients!r}' if coefficients else 'pixels'})"


def _case_label(result: CaseResult) -> str:
    case = result.case
    stage = "end to end" if case.stage == "e2e" else "network"
    return f"{stage}\nbatch {case.batch_size}\n{'with' if case.nms else 'no'} NMS"
