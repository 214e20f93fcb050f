"""From JPEG files to a network's inputs."""

from .dataset import Batch, JpegDataset, list_jpegs, prepare_inputs
from .loader import JpegLoader, make_loader

__all__ = ["Batch", "JpegDataset", "JpegLoader", "list_jpegs", "make_loader", "prepare_inputs"]
