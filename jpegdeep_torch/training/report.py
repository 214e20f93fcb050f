"""How a run gets on: what it tells, and the figures of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Callbacks:
    """Where a run tells how it gets on; each may be left out.

    say: a line.  step: after each, the number of steps done and what to show beside it.
    evaluated, checked: numbers of images, as they are evaluated and, before the run, looked at.
    begin: before the first step, the number of steps done by an earlier run, and that of the last step.
    """

    say: Callable[[str], None] = lambda line: None
    step: Callable[[int, dict[str, str]], None] = lambda done, shown: None
    evaluated: Callable[[int], object] = lambda images: None
    checked: Callable[[int], object] = lambda images: None
    begin: Callable[[int, int], None] = lambda done, last: None


@dataclass
class RunningMeans:
    """Sums over the steps since the last report."""

    images: int = 0
    steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, images: int, seconds: float, waiting: float, parts: dict[str, float]) -> None:
        self.images, self.steps = self.images + images, self.steps + 1
        self.seconds, self.waiting = self.seconds + seconds, self.waiting + waiting
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def figures(self) -> dict[str, float]:
        """The parts' means, images/s of all processes, and the share of the time spent waiting for data."""
        means = {name: value / self.steps for name, value in self.parts.items()}
        speed = self.images / self.seconds if self.seconds else 0.0
        return means | {"images_per_s": speed, "data_wait": self.waiting / self.seconds if self.seconds else 0.0}
