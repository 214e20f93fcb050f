"""Line plots as SVG text: a report needs no plotting library, and no file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 260, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 38, 24, 10, 34


def precision_recall_plot(title: str, precision: np.ndarray, recall: np.ndarray, most_points: int = 200) -> str:
    """One class's curve as it is (thin) and its envelope (bold), both axes 0..1."""
    if not len(precision):
        return _frame(title, "", "no detections")
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    curve = _thinned(recall, precision, most_points)
    # The envelope falls in steps: a horizontal to each recall at that recall's height.
    corners = _thinned(recall, envelope, most_points)
    steps = [(0.0, corners[0][1])]
    for x, y in corners:
        steps += [(steps[-1][0], y), (x, y)]
    steps.append((steps[-1][0], 0.0))
    body = f'<path class="curve" d="{_path(curve)}"/><path class="envelope" d="{_path(steps)}"/>'
    return _frame(title, body, "recall", "precision")


def bars(rows: Sequence[tuple[str, float]], width: int = 460) -> str:
    """Horizontal bars of values 0..1; NaN is shown as '-'."""
    parts = []
    for k, (name, value) in enumerate(rows):
        y = k * 20
        known = value == value
        parts.append(f'<text x="118" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="bar" x="124" y="{y + 3}" width="{(width - 190) * (value if known else 0):.1f}" height="14"/>'
        )
        parts.append(f'<text x="{width - 60}" y="{y + 14}">{f"{value:.4f}" if known else "-"}</text>')
    height = 20 * len(rows) + 4
    size = f'preserveAspectRatio="xMinYMin" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="bars" {size}>{"".join(parts)}</svg>'


def _thinned(x: np.ndarray, y: np.ndarray, most: int) -> list[tuple[float, float]]:
    keep = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))
    return list(zip(x[keep].tolist(), y[keep].tolist()))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{_x(x):.1f} {_y(y):.1f}" for x, y in points)


def _x(value: float) -> float:
    return _LEFT + value * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)


def _frame(title: str, body: str, below: str, beside: str = "") -> str:
    grid = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        lines = f"{_path([(0, tick), (1, tick)])} {_path([(tick, 0), (tick, 1)])}"
        grid.append(f'<path class="grid" d="{lines}"/>')
        grid.append(f'<text x="{_LEFT - 4}" y="{_y(tick) + 3:.1f}" text-anchor="end">{tick:g}</text>')
        grid.append(f'<text x="{_x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 12}" text-anchor="middle">{tick:g}</text>')
    words = f'<text class="title" x="{_LEFT}" y="15">{escape(title)}</text>'
    words += f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(below)}</text>'
    words += f'<text transform="translate(10 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(beside)}</text>'
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg class="plot" {size}>{"".join(grid)}{body}{words}</svg>'
