"""JPEG bytes to coefficients or pixels, at the network's size.

With the native reader, all but `resize_batch` needs NumPy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .geometry import Resize
from .header import check_jpeg, read_header
from .network_input import DctInput, read_dct
from .options import JpegWarning, ReadOptions, WarningCounts
from .planes import Planes
from .quantization import standard_tables
from .reader import read_many, read_planes
from .resize import resize_planes

if TYPE_CHECKING:
    from .resize_torch import resize_batch

__all__ = [
    "DctInput",
    "JpegWarning",
    "Planes",
    "ReadOptions",
    "Resize",
    "WarningCounts",
    "check_jpeg",
    "read_dct",
    "read_header",
    "read_many",
    "read_planes",
    "resize_batch",
    "resize_planes",
    "standard_tables",
]


def __getattr__(name: str) -> Any:  # PEP 562: what needs PyTorch is imported when it is used
    if name == "resize_batch":
        from .resize_torch import resize_batch

        return resize_batch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
