"""Plots of how cost grows, and of predicted against measured speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmark.axes import COLOURS, bare_axes, legend_above
from eval.benchmark.figures import new_figure, save_figure

_VARIED = ("batch", "threads", "workers", "megapixels")


def draw_scaling(scaling: Sequence[dict[str, Any]], prediction: dict[str, Any] | None, folder: Path) -> list[str]:
    """Writes the plots for which there are figures -> their file names."""
    drawn = []
    for name, rows in (
        ("scaling.png", [row for row in scaling if not row["cost"].startswith("MiB")]),
        ("memory.png", [row for row in scaling if row["cost"].startswith("MiB")]),
    ):
        if rows:
            save_figure(_scaling(rows), folder / name)
            drawn.append(name)
    if prediction:
        save_figure(_prediction(prediction["checked"]), folder / "prediction.png")
        drawn.append("prediction.png")
    return drawn


def _scaling(rows: Sequence[dict[str, Any]]) -> Any:
    """A panel a size that is varied; points measured, lines fitted."""
    varied = [size for size in _VARIED if any(row["varies"] == size for row in rows)]
    figure = new_figure(4.0 * len(varied), 4.4)
    memory = rows[0]["cost"].startswith("MiB")
    for axes, size in zip(bare_axes(figure, len(varied)), varied):
        shown = [row for row in rows if row["varies"] == size]
        for row, colour in zip(shown, COLOURS[1:]):
            fit, name = (
                row["fit"],
                row["model"].removeprefix("ssd300_") + (f", {row['coefficients']}" if row["coefficients"] else ""),
            )
            law = f", exponent {fit['exponent']:.2f}" if fit["kind"] != "one point" else ""
            axes.plot(row["sizes"], row["costs"], "o", color=colour, label=name + law)
            if fit["kind"] != "one point":
                line = np.geomspace(min(row["sizes"]), max(row["sizes"]), 50)
                power = fit["kind"] == "power"
                costs = fit["at_one"] * line ** fit["exponent"] if power else fit["start"] + fit["slope"] * line
                axes.plot(line, costs, color=colour, linewidth=1)
        if not memory and all(row["fit"]["kind"] == "power" for row in shown):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(shown[0]["sizes"], [f"{x:g}" for x in shown[0]["sizes"]])
            axes.set_yticks(*_plain_ticks(axes.get_ylim()))
            axes.minorticks_off()
        else:
            axes.set_ylim(bottom=0)
            if size != "megapixels":
                axes.set_xticks(shown[0]["sizes"])
        axes.set_xlabel(size)
        axes.set_ylabel(shown[0]["cost"], fontsize=8)
        legend_above(axes, 1)
    return figure


def _plain_ticks(limits: tuple[float, float]) -> tuple[list[float], list[str]]:
    """1, 2, 5, 10, 20, ... within the limits."""
    exponents = range(int(np.floor(np.log10(limits[0]))), int(np.ceil(np.log10(limits[1]))) + 1)
    ticks = [step * 10.0**e for e in exponents for step in (1, 2, 5) if limits[0] <= step * 10.0**e <= limits[1]]
    return ticks, [f"{tick:g}" for tick in ticks]


def _prediction(checked: Sequence[dict[str, Any]]) -> Any:
    figure = new_figure(4.8, 4.4)
    (axes,) = bare_axes(figure)
    for network, colour in zip(dict.fromkeys(row["network"] for row in checked), COLOURS[1:]):
        own = [row for row in checked if row["network"] == network]
        axes.plot([r["measured"] for r in own], [r["predicted"] for r in own], "o", color=colour, label=network)
    ends = np.array([0.8 * min(r["measured"] for r in checked), 1.25 * max(r["measured"] for r in checked)])
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color="grey", alpha=0.2, label="within 10%")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(*_plain_ticks(tuple(ends)))
    axes.set_yticks(*_plain_ticks(tuple(ends)))
    axes.minorticks_off()
    axes.set_xlabel("measured, images/s end to end")
    axes.set_ylabel("predicted")
    legend_above(axes, 1)
    return figure
