"""A throughput run as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ..errors import DatasetError
from ..weights import written_whole
from .stats import summary
from .subject import Subject
from .throughput import CellResult

_COLOURS = ("#8a8f98", "#1f77b4", "#2ca02c", "#9467bd", "#d62728")


def plot(results: Sequence[CellResult], subjects: Sequence[Subject], path: str | os.PathLike[str], title: str) -> None:
    """Bars of images/s, a group per cell, whiskers from the 10th to the 90th percentile, ratios above the bars.

    The ending of `path` says the format: .png, .svg or .pdf.  DatasetError where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DatasetError("--plot needs matplotlib: pip install matplotlib (the extra 'eval')") from None
    groups = np.arange(len(results))
    width = 0.8 / len(subjects)
    figure = Figure(figsize=(2 + 1.2 * len(results), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, subject in enumerate(subjects):
        figures = [summary(result.images_per_s(i)) for result in results]
        middle = np.array([f["median"] for f in figures])
        whiskers = [middle - [f["p10"] for f in figures], [f["p90"] for f in figures] - middle]
        place = groups + (i - (len(subjects) - 1) / 2) * width
        axes.bar(place, middle, width, yerr=whiskers, capsize=2, label=_label(subject), color=_COLOURS[i % 5])
        for group, result in enumerate(results if i else ()):
            ratio = summary(result.ratios(i))["median"]
            top = figures[group]["p90"]
            axes.annotate(f"x{ratio:.2f}", (place[group], top), (0, 3), textcoords="offset points", ha="center")
    axes.set_xticks(groups, [_cell_label(result) for result in results])
    axes.set_ylabel("images/s")
    axes.set_title(title, fontsize=9)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=os.fspath(path).rpartition(".")[2] or "png", dpi=110)


def _label(subject: Subject) -> str:
    way = f"coefficients, '{subject.preset.dct}'" if subject.config.is_dct else "pixels"
    return f"{subject.config.name} ({way})"


def _cell_label(result: CellResult) -> str:
    cell = result.cell
    stage = "end to end" if cell.stage == "e2e" else "network"
    return f"{stage}\nbatch {cell.batch_size}\n{'with' if cell.nms else 'no'} NMS"
