"""Annotated images, whatever data set they come from, and what happens to annotations that cannot be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DatasetError

_EXAMPLES = 10  # messages kept of each kind
Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels
Object = tuple[Box, int, bool]  # (box, label, ignore)


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and the K objects in it.

    boxes: (K, 4) float64, xmin, ymin, xmax, ymax in pixels of the original image as the data set has them: VOC counts
        pixels from 1 and includes the last one, COCO's corners are 0-based edges.
    labels: (K,) int64 from 1.
    ignore: (K,) bool, objects that count neither as found nor as missed: VOC's 'difficult', COCO's crowds.
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
    """Collects what is wrong with a data set.  If strict (the default), the first issue is a DatasetError.

    counts: how many issues there are of each kind, such as 'missing picture'.
    examples: the first messages of each kind.
    names: of kinds that are about names, such as 'unknown class': how often each name was met.
    """

    lenient: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, Counter[str]] = field(default_factory=dict)
    _known: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def report(self, kind: str, message: str, name: str | None = None) -> None:
        """Raises DatasetError(message), or counts it under `kind`; once, where several sets have the same picture."""
        if not self.lenient:
            raise DatasetError(message)
        if (kind, message) in self._known:
            return
        self._known.add((kind, message))
        self.counts[kind] += 1
        if name is not None:
            self.names.setdefault(kind, Counter())[name] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES:
            kept.append(message)

    def summary(self) -> list[str]:
        """A line for each kind of issue: its count, all names, and the first message."""
        return [f"{self._counted(kind)}, such as {self.examples[kind][0]}" for kind in sorted(self.counts)]

    def listing(self, kind: str) -> str:
        """A line with the first messages of a kind, and how many more there are; of a kind about names, one message."""
        kept, left = self.examples[kind], self.counts[kind] - len(self.examples[kind])
        if kind in self.names:
            return f"{self._counted(kind)}, such as {kept[0]}"
        return f"{self._counted(kind)}: {'; '.join(kept)}" + (f"; and {left} more" if left else "")

    def _counted(self, kind: str) -> str:
        names = ", ".join(f"{name} {count}" for name, count in sorted(self.names.get(kind, {}).items()))
        return f"{self.counts[kind]} x {kind}" + (f" ({names})" if names else "")


def check_box(box: Box, height: int, width: int, what: str, issues: DatasetIssues, slack_px: float = 0) -> Box | None:
    """The box, or None where it cannot be used; what is wrong with it goes to `issues`.

    A box has to have an area, and to lie inside the image.  If `issues` is lenient, the part inside is kept.

    Args:
        height, width: of the image, in pixels.
        what: names file and object in messages.
        slack_px: how far a box may leave the image.
    """
    xmin, ymin, xmax, ymax = box
    if not (xmax > xmin and ymax > ymin):  # also catches NaN
        issues.report("degenerate box", f"{what}: box {_shown(box)} has no area, expected xmin < xmax and ymin < ymax")
        return None
    if min(xmin, ymin) < -slack_px or xmax > width + slack_px or ymax > height + slack_px:
        issues.report("box outside the image", f"{what}: box {_shown(box)} leaves the image of {width}x{height} px")
        inside = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height)))
        return inside if inside[2] > inside[0] and inside[3] > inside[1] else None
    return box


def _shown(box: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def make_annotated(name: str, path: Path, height: int, width: int, objects: list[Object]) -> AnnotatedImage:
    """An AnnotatedImage from its objects, one by one."""
    boxes = np.array([box for box, _, _ in objects], dtype=np.float64).reshape(-1, 4)
    labels = np.array([label for _, label, _ in objects], dtype=np.int64)
    return AnnotatedImage(name, path, height, width, boxes, labels, np.array([i for _, _, i in objects], dtype=bool))
