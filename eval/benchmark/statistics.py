"""Percentiles of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    p10, median, p90 = np.percentile(samples, (10, 50, 90))
    return {"median": float(median), "p10": float(p10), "p90": float(p90)}
