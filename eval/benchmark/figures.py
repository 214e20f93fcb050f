"""Plots by matplotlib, without a display."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jpegdeep_torch.errors import MissingExtra
from jpegdeep_torch.utils.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Whole or not at all; the ending of `path` says the format."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=os.fspath(path).rpartition(".")[2] or "png", dpi=110)
