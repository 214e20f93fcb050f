"""A study's plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmark.axes import COLOURS, bare_axes, legend_above
from eval.benchmark.figures import new_figure, save_figure
from eval.benchmark.statistics import summary
from eval.study.page import ratio_pairs, stage_rows
from eval.study.results import Row, Rows, ratio_samples, stage_times


def draw(rows: Rows, folder: Path) -> list[str]:
    """Writes the plots for which there are rows -> their file names."""
    drawn = []
    for name, plot in (
        ("batch.png", _batch),
        ("stages.png", _stages),
        ("ratio.png", _ratio),
        ("workers.png", _workers),
    ):
        figure = plot(rows)
        if figure is not None:
            save_figure(figure, folder / name)
            drawn.append(name)
    return drawn


def _line(axes: Any, places: list[float], rows: list[Row], colour: str, label: str, dashed: bool = False) -> None:
    speeds = [summary(row["samples"]) for row in rows]
    middle = np.array([s["median"] for s in speeds])
    around = [middle - [s["p10"] for s in speeds], [s["p90"] for s in speeds] - middle]
    style = {"linestyle": "--" if dashed else "-", "marker": "o", "markersize": 4, "capsize": 2}
    axes.errorbar(places, middle, around, color=colour, label=label, **style)


def _batch(rows: Rows) -> Any:
    sizes = sorted(rows.matrix.batch_sizes)
    if len(sizes) < 2:
        return None
    figure = new_figure(6.5, 4.2)
    (axes,) = bare_axes(figure)
    for model, colour in zip(rows.detectors, COLOURS):
        for stage, nms, dashed in (("model", False, True), ("e2e", True, False)):
            found = [row for n in sizes if (row := rows.find(model, stage, n, nms))]
            if found:
                what = "JPEG bytes to boxes, NMS" if stage == "e2e" else "network alone, no NMS"
                _line(axes, [row["batch_size"] for row in found], found, colour, f"{model}, {what}", dashed)
    if not axes.has_data():
        return None
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch size")
    axes.set_ylabel("images/s")
    legend_above(axes)
    return figure


def _stages(rows: Rows) -> Any:
    shown = stage_rows(rows)
    if not shown:
        return None
    figure = new_figure(7.5, 2.0 + 0.55 * len(shown))
    (axes,) = bare_axes(figure)
    names = [row["model"] + (f"\n{row['coefficients']}" if row["coefficients"] else "") for row in shown]
    times = [stage_times(row) for row in shown]
    for title, colour in zip(dict.fromkeys(title for each in times for title in each), COLOURS[1:]):
        hidden = any(each.get(title, (0, False))[1] for each in times)
        lefts, widths = [], []
        for each in times:  # what is hidden stands left of zero, outside the time that an image takes
            before = [t for t in list(each)[: list(each).index(title)] if each[t][1] == hidden] if title in each else []
            ms = each.get(title, (0.0, hidden))[0]
            start = sum(each[t][0] for t in before)
            lefts.append(-start - ms if hidden else start)
            widths.append(ms)
        label = f"{title} (worker, beside)" if hidden else title
        axes.barh(range(len(shown)), widths, 0.6, lefts, color=colour, label=label, hatch="//" if hidden else None)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"ms per image, end to end, batch {shown[0]['batch_size']}")
    legend_above(axes)
    return figure


def _ratio(rows: Rows) -> Any:
    pairs = ratio_pairs(rows)
    if not pairs:
        return None
    figure = new_figure(7.5, 1.2 + 0.24 * len(pairs))
    (axes,) = bare_axes(figure)
    for place, (row, base) in enumerate(pairs):
        s = summary(ratio_samples(row, base))
        colour = COLOURS[1 + rows.matrix.models.index(row["model"]) % 9]
        around = [[s["median"] - s["p10"]], [s["p90"] - s["median"]]]
        axes.errorbar([s["median"]], [place], xerr=around, fmt="o", markersize=4, capsize=2, color=colour)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.axvline(2, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(pairs)), [_setting(row) for row, _ in pairs], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.margins(y=0.5 / len(pairs))
    figure.supxlabel(f"images/s over those of {rows.rgb}: median, 10th to 90th percentile", fontsize=9)
    return figure


def _setting(row: Row) -> str:
    nms = "NMS" if row["nms"] else "no NMS"
    where = f"{row['model'].removeprefix('ssd300_')}, {row['backend']}, batch {row['batch_size']}, {nms}"
    return (
        f"{where}, network alone"
        if row["stage"] == "model"
        else f"{where}, {row['workers']} workers, {row['coefficients']}"
    )


def _workers(rows: Rows) -> Any:
    counts = sorted(rows.matrix.workers)
    if len(counts) < 2:
        return None
    figure = new_figure(6.5, 4.2)
    (axes,) = bare_axes(figure)
    size = rows.matrix.base_batch
    for model, colour in zip(rows.detectors, COLOURS):
        for kind in rows.matrix.coefficients if model in rows.dct else (None,):
            found = [row for w in counts if (row := rows.among_workers(model, size, w, kind))]
            if found:
                label = f"{model}, {kind}" if kind else model
                other = kind is not None and kind != rows.matrix.coefficients[0]
                _line(axes, [row["workers"] for row in found], found, colour, label, other)
    if not axes.has_data():
        return None
    axes.set_xticks(counts)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers (processes that read JPEGs)")
    axes.set_ylabel(f"images/s, end to end, batch {size}")
    legend_above(axes)
    return figure
