"""Is a backend right?  Its outputs against eager float32, before anybody looks at its speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Runner, as_tuple


@dataclass(frozen=True)
class Tolerance:
    """Largest difference from eager float32 that is not an error: of softmax scores, and of box offsets.

    Offsets are compared as shares of the largest offset where that exceeds 1, so that seeded weights, whose offsets
    have no particular size, are judged as trained ones.
    """

    scores: float
    offsets: float


TOLERANCES = {
    "float32": Tolerance(1e-3, 1e-3),  # the order of additions; TF32 is off
    "float16": Tolerance(2e-2, 2e-2),  # 11 bits of mantissa, through some 20 layers
    "bfloat16": Tolerance(1e-1, 1e-1),  # 8 bits
    "int8": Tolerance(2.5e-1, 2.5e-1),  # catches a wrong engine; what int8 costs in accuracy, data must tell
}


@dataclass(frozen=True)
class Comparison:
    """Largest differences from eager float32 (`offsets` is 0 for a classifier), and whether they are tolerable."""

    scores: float
    offsets: float
    tolerance: Tolerance
    finite: bool

    @property
    def ok(self) -> bool:
        within = self.scores <= self.tolerance.scores and self.offsets <= self.tolerance.offsets
        return self.finite and within

    @property
    def largest(self) -> float:
        """The larger of the two differences, for a table with one column."""
        return max(self.scores, self.offsets)

    def __str__(self) -> str:
        if not self.finite:
            return "outputs are not finite"
        return (
            f"scores differ by {self.scores:.2g} (tolerance {self.tolerance.scores:g}), "
            f"offsets by {self.offsets:.2g} ({self.tolerance.offsets:g})"
        )


@torch.no_grad()
def compare(runner: Runner, model: nn.Module, inputs: Sequence[Tensor]) -> Comparison:
    """The outputs of `runner` against those of `model`, float32, in plain PyTorch on `model`'s device.

    `inputs` as for the runner.  The model computes in true float32: TF32 is switched off meanwhile.
    """
    device = next(model.parameters()).device
    wide = [x.to(device=device, dtype=torch.float32, memory_format=torch.channels_last) for x in inputs]
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        expected = as_tuple(model(*wide))
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    got = [y.to(device=device, dtype=torch.float32) for y in as_tuple(runner(*inputs))]
    return difference(got, expected, TOLERANCES[runner.precision])


def difference(got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: Tolerance) -> Comparison:
    """`compare` on outputs that are already there: (logits[, offsets]) each, float32."""
    finite = all(bool(torch.isfinite(y).all()) for y in got)
    scores = float((got[0].softmax(-1) - expected[0].softmax(-1)).abs().max())
    offsets = 0.0
    if len(expected) > 1:
        largest = float(expected[1].abs().max())
        offsets = float((got[1] - expected[1]).abs().max()) / max(1.0, largest)
    return Comparison(scores, offsets, tolerance, finite)
