"""JPEG bytes to coefficients or pixels, at the network's size."""

from .geometry import Resize
from .header import check_jpeg, read_header
from .network_input import DctInput, read_dct
from .options import JpegWarning, ReadOptions, WarningCounts
from .planes import Planes
from .quantization import standard_tables
from .reader import read_many, read_planes
from .resize import resize_planes
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
