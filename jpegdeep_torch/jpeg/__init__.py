"""JPEG bytes to coefficients or pixels, at the network's size."""

from .batch import DctBatch, read_dct_batch
from .geometry import Resize
from .header import check_jpeg, read_header
from .network_input import DctInput, read_dct
from .options import JpegWarning, ReadOptions
from .planes import Planes
from .quantization import standard_tables
from .reader import read_many, read_planes
from .resize import resize_planes
from .resize_torch import resize_batch

__all__ = [
    "DctBatch",
    "DctInput",
    "JpegWarning",
    "Planes",
    "ReadOptions",
    "Resize",
    "check_jpeg",
    "read_dct",
    "read_dct_batch",
    "read_header",
    "read_many",
    "read_planes",
    "resize_batch",
    "resize_planes",
    "standard_tables",
]
