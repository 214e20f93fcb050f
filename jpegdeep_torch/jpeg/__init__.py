"""JPEG bytes to coefficients or pixels, at the network's size."""

from .geometry import Resize, fit_image
from .header import check_jpeg, read_header
from .network_input import DctInput, read_dct
from .options import JpegWarning, ReadOptions
from .pixel_input import read_gray, read_rgb
from .pixels_torch import pixels_batch
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
    "check_jpeg",
    "fit_image",
    "pixels_batch",
    "read_dct",
    "read_gray",
    "read_header",
    "read_many",
    "read_planes",
    "read_rgb",
    "resize_batch",
    "resize_planes",
    "standard_tables",
]
