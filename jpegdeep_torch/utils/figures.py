"""Plots by matplotlib, without a display."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingExtra
from .files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLOURS = tuple(f"C{i}" for i in (7, 0, 2, 1, 4, 9, 3, 8, 5, 6))  # grey first: the base


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; MissingExtra where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("plots need matplotlib: pip install 'jpegdeep-torch[eval]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def bare_axes(figure: Any, columns: int = 1) -> list[Any]:
    """Subplots side by side, without the upper and the right line."""
    axes = np.atleast_1d(figure.subplots(1, columns)).tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return axes


def legend_above(axes: Any, columns: int = 2) -> None:
    """Where no bar or line is."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1))


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Whole or not at all; the ending of `path` says the format."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=os.fspath(path).rpartition(".")[2] or "png", dpi=110)
