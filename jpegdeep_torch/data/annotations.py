"""What every annotated data set comes down to, and what happens to annotations that cannot be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DatasetError

_EXAMPLES = 10  # messages kept of each kind


@dataclass(frozen=True)
class AnnotatedImage:
    """One picture and what is in it.

    `boxes` (K, 4) float64: xmin, ymin, xmax, ymax in pixels of the original image, in the data set's own convention
    (VOC counts pixels from 1 and includes the last one; COCO's corners are 0-based edges).  `labels` (K,) int64 from 1.
    `ignore` (K,) bool: objects that count neither way: VOC's 'difficult', COCO's crowds.
    """

    name: str
    path: Path
    height_px: int
    width_px: int
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray


@dataclass
class DatasetIssues:
    """Collects what is wrong with a data set.  Strict (the default): the first problem is a DatasetError.

    counts, examples: by kind.  names: by kind, how often each name was met, where a problem is one of names.
    """

    lenient: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, Counter[str]] = field(default_factory=dict)

    def report(self, kind: str, message: str, name: str | None = None) -> None:
        """Raises DatasetError(message), or counts it under `kind`."""
        if not self.lenient:
            raise DatasetError(message)
        self.counts[kind] += 1
        if name is not None:
            self.names.setdefault(kind, Counter())[name] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES:
            kept.append(message)

    def summary(self) -> list[str]:
        """A line for each kind of problem met: its count, all names, and the first message."""
        return [f"{self._counted(kind)}, such as {self.examples[kind][0]}" for kind in sorted(self.counts)]

    def listing(self, kind: str) -> str:
        """A line with a kind's messages: the first of them, and how many more; of problems of names, one message."""
        kept, left = self.examples[kind], self.counts[kind] - len(self.examples[kind])
        if kind in self.names:
            return f"{self._counted(kind)}, such as {kept[0]}"
        return f"{self._counted(kind)}: {'; '.join(kept)}" + (f"; and {left} more" if left else "")

    def _counted(self, kind: str) -> str:
        names = ", ".join(f"{name} {count}" for name, count in sorted(self.names.get(kind, {}).items()))
        return f"{self.counts[kind]} x {kind}" + (f" ({names})" if names else "")


def check_box(
    box: tuple[float, float, float, float],
    height: int,
    width: int,
    what: str,
    problems: DatasetIssues,
    slack_px: float = 0,
) -> tuple[float, float, float, float] | None:
    """The box, or None where it cannot be used.

    Degenerate: not wider and higher than nothing.  Outside: beyond 0..width or 0..height by more than `slack_px`; with
    lenient `problems`, what lies inside is kept.
    """
    xmin, ymin, xmax, ymax = box
    if not (xmax > xmin and ymax > ymin):  # also catches NaN
        problems.report(
            "degenerate box", f"{what}: box {_shown(box)} has no area, expected xmin < xmax and ymin < ymax"
        )
        return None
    if min(xmin, ymin) < -slack_px or xmax > width + slack_px or ymax > height + slack_px:
        problems.report("box outside the image", f"{what}: box {_shown(box)} leaves the image of {width}x{height} px")
        inside = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height)))
        return inside if inside[2] > inside[0] and inside[3] > inside[1] else None
    return box


def _shown(box: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def make_annotated(
    name: str,
    path: Path,
    height: int,
    width: int,
    objects: list[tuple[tuple[float, float, float, float], int, bool]],
) -> AnnotatedImage:
    """AnnotatedImage from a list of (box, label, ignore)."""
    return AnnotatedImage(
        name=name,
        path=path,
        height_px=height,
        width_px=width,
        boxes=np.array([box for box, _, _ in objects], dtype=np.float64).reshape(-1, 4),
        labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        ignore=np.array([flag for _, _, flag in objects], dtype=bool),
    )
