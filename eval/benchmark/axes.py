"""How the laboratory's plots look."""

from __future__ import annotations

from typing import Any

import numpy as np

COLOURS = tuple(f"C{i}" for i in (7, 0, 2, 1, 4, 9, 3, 8, 5, 6))  # grey first: the base


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
