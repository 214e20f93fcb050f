"""JPEG bytes to coefficients or pixels, at the network's size.

With the native reader, all but `pixels_batch` and `resize_batch` needs NumPy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .batch import DctBatch, read_dct_batch
from .geometry import Resize, fit_image
from .header import check_jpeg, read_header
from .network_input import DctInput, read_dct
from .options import JpegWarning, ReadOptions, WarningCounts
from .pixel_input import read_gray, read_rgb
from .planes import Planes
from .quantization import standard_tables
from .reader import read_many, read_planes
from .resize import resize_planes

if TYPE_CHECKING:
    from .pixels_torch import pixels_batch
    from .resize_torch import resize_batch

__all__ = [
    "DctBatch",
    "DctInput",
    "JpegWarning",
    "Planes",
    "ReadOptions",
    "Resize",
    "WarningCounts",
    "check_jpeg",
    "fit_image",
    "pixels_batch",
    "read_dct",
    "read_dct_batch",
    "read_gray",
    "read_header",
    "read_many",
    "read_planes",
    "read_rgb",
    "resize_batch",
    "resize_planes",
    "standard_tables",
]


_NEED_PYTORCH = {"pixels_batch": "pixels_torch", "resize_batch": "resize_torch"}  # name -> its module


def __getattr__(name: str) -> Any:  # PEP 562: what needs PyTorch is imported when it is used
    if name in _NEED_PYTORCH:
        return getattr(importlib.import_module("." + _NEED_PYTORCH[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
