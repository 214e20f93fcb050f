"""From JPEG files to a network's inputs."""

from .dataset import Batch, JpegDataset, JpegLoader, list_jpegs, make_loader, prepare_inputs

__all__ = ["Batch", "JpegDataset", "JpegLoader", "list_jpegs", "make_loader", "prepare_inputs"]
