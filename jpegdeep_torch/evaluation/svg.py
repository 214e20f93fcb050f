"""Line plots and bars as SVG text: a report needs no plotting library, and no file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST_POINTS = 200
# Curves are in units of the axes, 0 to 1; this puts them into a frame of 212 x 162 px at (38, 186).
_PLOT = """<svg class="plot" viewBox="0 0 260 220" width="260" height="220">
<g transform="translate(38 186) scale(212 -162)">{paths}</g><text class="title" x="38" y="15">{title}</text>{ticks}
<text x="130" y="214" text-anchor="middle">{below}</text>
<text transform="translate(10 110) rotate(-90)" text-anchor="middle">{beside}</text></svg>"""
_BAR = """<text x="118" y="{y}" text-anchor="end">{name}</text>
<rect class="bar" x="124" y="{top}" width="{width:.1f}" height="14"/><text x="400" y="{y}">{shown}</text>"""


def precision_recall_plot(title: str, precision: np.ndarray, recall: np.ndarray) -> str:
    """One class's curve as it is (thin) and its envelope (bold), both axes 0 to 1."""
    paths = [_path("grid", [(0, t), (1, t)]) + _path("grid", [(t, 0), (t, 1)]) for t in _TICKS]
    if len(precision):
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        keep = np.unique(np.linspace(0, len(recall) - 1, min(_MOST_POINTS, len(recall))).round().astype(int))
        x, y = recall[keep], envelope[keep]
        paths.append(_path("curve", zip(x, precision[keep])))
        # The envelope falls in steps: a horizontal to each recall at that recall's height.
        steps = np.stack((np.concatenate(([0.0], np.repeat(x, 2))), np.concatenate((np.repeat(y, 2), [0.0]))), axis=1)
        paths.append(_path("envelope", steps))
    ticks = "".join(
        f'<text x="34" y="{189 - 162 * t:.1f}" text-anchor="end">{t:g}</text>'
        f'<text x="{38 + 212 * t:.1f}" y="198" text-anchor="middle">{t:g}</text>'
        for t in _TICKS
    )
    below, beside = ("recall", "precision") if len(precision) else ("no detections", "")
    return _PLOT.format(paths="".join(paths), title=escape(title), ticks=ticks, below=below, beside=beside)


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars of values from 0 to 1, by name; NaN is shown as '-'."""
    parts, height = [], 20 * len(values) + 4
    for k, (name, value) in enumerate(values):
        width, shown = (0.0, "-") if np.isnan(value) else (270 * value, f"{value:.4f}")
        parts.append(_BAR.format(y=20 * k + 14, top=20 * k + 3, name=escape(name), width=width, shown=shown))
    size = f'preserveAspectRatio="xMinYMin" viewBox="0 0 460 {height}" width="460" height="{height}"'
    return f'<svg class="bars" {size}>{"".join(parts)}</svg>'


def _path(kind: str, points) -> str:
    return f'<path class="{kind}" d="M{" L".join(f"{x:.4g} {y:.4g}" for x, y in points)}"/>'
