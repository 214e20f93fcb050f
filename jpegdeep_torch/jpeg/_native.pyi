"""The native JPEG reader, as csrc/module.cpp defines it.  Use jpegdeep_torch.jpeg, which checks and explains."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .axes import Axis

_Coefficients = npt.NDArray[np.int16]
_Steps = npt.ArrayLike  # 64 quantisation steps

class DecodeError(Exception):
    """The file cannot be decoded; the message says why."""

class AxisPlan:
    """How the blocks along one axis of a component are resampled."""

    def __init__(self, axis: Axis, even: bool) -> None: ...
    @property
    def window(self) -> int: ...

class Target:
    """Where one component goes: plans (rows, columns) and an int16 or float32 array (rows, columns, 64)."""

    def __init__(
        self,
        plans: tuple[AxisPlan, AxisPlan],
        array: _Coefficients | npt.NDArray[np.float32],
        steps: _Steps | None = None,
        input_dc: float = 0.0,
        output_dc: float = 0.0,
        gain: float = 1.0,
    ) -> None: ...

class File:
    """A file whose header has been read: its properties, then its coefficients, once."""

    def __init__(self, data: bytes, max_pixels: float, tolerate_warnings: bool, fast: bool = True) -> None: ...
    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
    @property
    def sampling(self) -> tuple[tuple[int, int], ...]:
        """(horizontal, vertical) sampling factors of each component."""
    def read(self) -> tuple[tuple[_Coefficients, ...], npt.NDArray[np.uint16]]:
        """(planes (block rows, block columns, 64) each, quantisation tables (components, 64))."""
    def resize(self, targets: Sequence[Target], timed: bool = False) -> tuple[float, float] | None:
        """Fills the targets' arrays; where `timed`, gives the seconds of the horizontal and the vertical pass."""

def resize_plane(plane: _Coefficients, target: Target, baseline: bool = False) -> None: ...
def turn_chroma(chroma: npt.NDArray[np.float32], degrees: float, steps: _Steps | None, out: _Coefficients) -> None: ...
def bare_read(arg0: bytes, /) -> None:
    """Entropy-decodes a file with libjpeg and drops the coefficients."""

def kernels() -> str:
    """The name of the kernels that this CPU runs."""
