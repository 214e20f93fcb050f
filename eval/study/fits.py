"""Fits of a cost against a size: how it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PowerLaw:
    """cost = at_one * size ** exponent; `spread` is the largest relative distance of a point from it."""

    at_one: float
    exponent: float
    spread: float

    def __call__(self, size: float) -> float:
        return self.at_one * size**self.exponent


@dataclass(frozen=True)
class Line:
    """cost = start + slope * size; `spread` as above."""

    start: float
    slope: float
    spread: float

    def __call__(self, size: float) -> float:
        return self.start + self.slope * size


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> PowerLaw:
    """Least squares of the logarithms; needs two sizes or more, all positive."""
    exponent, start = np.polyfit(np.log(sizes), np.log(costs), 1)
    law = PowerLaw(float(np.exp(start)), float(exponent), 0.0)
    return PowerLaw(law.at_one, law.exponent, _spread(law, sizes, costs))


def line(sizes: Sequence[float], costs: Sequence[float]) -> Line:
    """Least squares of the relative distances, so that small costs count as much as large; needs two sizes or more."""
    slope, start = np.polyfit(sizes, costs, 1, w=1 / np.asarray(costs))
    fitted = Line(float(start), float(slope), 0.0)
    return Line(fitted.start, fitted.slope, _spread(fitted, sizes, costs))


def _spread(law: PowerLaw | Line, sizes: Sequence[float], costs: Sequence[float]) -> float:
    return max(abs(law(size) / cost - 1) for size, cost in zip(sizes, costs))
