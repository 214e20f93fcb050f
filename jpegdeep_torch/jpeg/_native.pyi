"""The native part (csrc/module.cpp), for type checkers and readers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

class DecodeError(Exception): ...

class AxisPlan:
    """One axis's matrix in the kernel's form; `axis` is an `axes.Axis`."""

    def __init__(self, axis: Any, even: bool, to_pixels: bool = False) -> None: ...
    @property
    def window(self) -> int: ...

class Target:
    """Where one component goes: (plan of the stored rows, of the stored columns), and the buffer to write into."""

    def __init__(
        self,
        plans: tuple[AxisPlan, AxisPlan],
        array: np.ndarray,
        steps: np.ndarray | None = None,
        input_dc: float = 0.0,
        output_dc: float = 0.0,
        gain: float = 1.0,
        transposed: bool = False,
    ) -> None: ...

class RowFilter:
    """The samples that each output pixel of an axis is a sum of."""

    def __init__(self, axis: Any) -> None: ...

class PixelTarget:
    """Where pixels go: (of the stored rows, of the stored columns) for each component, and the buffer to write into."""

    def __init__(
        self,
        plans: Sequence[tuple[RowFilter, AxisPlan]],
        array: np.ndarray,
        width: int,
        matrix: np.ndarray,
        offset: np.ndarray,
        channels_first: bool = False,
        transposed: bool = False,
    ) -> None: ...

class File:
    """A file whose header has been read.  One of its methods then decodes it, once."""

    def __init__(self, data: bytes, on_damage: str = "error", fast: bool = True) -> None: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def sampling(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def several_scans(self) -> bool: ...
    @property
    def warnings(self) -> list[tuple[str, int]]: ...
    def check(self) -> None: ...
    def pixels(
        self, transpose: bool = False, flip_vertical: bool = False, flip_horizontal: bool = False
    ) -> np.ndarray: ...
    def read(self, threads: int = 1) -> tuple[tuple[np.ndarray, ...], np.ndarray]: ...
    def resize(
        self, targets: Sequence[Target], timed: bool = False, threads: int = 1
    ) -> tuple[float, float] | None: ...
    def resize_pixels(self, target: PixelTarget, baseline: bool = False) -> None: ...

class Batch:
    """Files that are resized on several threads; `finish` waits, and says of each what is wrong with it, or None."""

    def __init__(self, threads: int) -> None: ...
    def add(self, file: File, targets: Sequence[Target] | PixelTarget) -> None: ...
    def finish(self) -> list[str | None]: ...

def resize_plane(plane: np.ndarray, target: Target, baseline: bool = False) -> None: ...
def turn_chroma(chroma: np.ndarray, degrees: float, steps: np.ndarray | None, out: np.ndarray) -> None: ...
def bare_read(data: bytes) -> None: ...
def ordinary_header(data: bytes) -> tuple[Any, ...] | None:
    """Of a file with nothing unusual in its header, else None: (height, width), the components' ids and sampling
    factors, whether it is progressive, has several scans, and has a JFIF segment, the transform of an Adobe segment or
    None, the body of the EXIF segment or None, and where the first scan's data begin."""

def kernels() -> str: ...
