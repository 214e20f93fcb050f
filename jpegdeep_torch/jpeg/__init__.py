"""JPEG bytes to coefficients or pixels, at the network's size."""

from .geometry import Resize
from .network_input import DctInput, read_dct
from .planes import Planes
from .quantization import standard_tables
from .reader import MAX_PIXELS, read_many, read_planes
from .resize import resize_planes
from .resize_torch import resize_batch

__all__ = [
    "MAX_PIXELS",
    "DctInput",
    "Planes",
    "Resize",
    "read_dct",
    "read_many",
    "read_planes",
    "resize_batch",
    "resize_planes",
    "standard_tables",
]
