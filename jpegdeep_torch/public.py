"""The names that `jpegdeep_torch` itself has: the API for users."""

from .data import JpegDataset, list_jpegs, make_loader, prepare_inputs
from .detection import NMSConfig, detect, ssd300_anchors
from .errors import (
    BackendUnavailable,
    CheckpointError,
    ConfigError,
    DatasetError,
    JpegDeepError,
    JpegError,
    MissingExtra,
    ModelError,
    TrainingError,
)
from .inference.classifier import Classifier
from .inference.detector import Detector
from .jpeg import Planes, read_dct, read_dct_batch, read_many, read_planes
from .keras import convert_keras
from .models import list_models
from .presets import PRESETS, get_preset
from .torch_checkpoints import convert_torch, create_model
from .training.run import TrainingResult, train
from .utils.memory import keep_freed_memory
from .weights import load_model, load_weights, read_info, save_weights

__all__ = [
    "PRESETS", "BackendUnavailable", "CheckpointError", "Classifier", "ConfigError", "DatasetError", "Detector",
    "JpegDataset", "JpegDeepError", "JpegError", "MissingExtra", "ModelError", "NMSConfig", "Planes", "TrainingError",
    "TrainingResult", "convert_keras", "convert_torch", "create_model", "detect", "get_preset", "keep_freed_memory",
    "list_jpegs", "list_models", "load_model", "load_weights", "make_loader", "prepare_inputs", "read_dct",
    "read_dct_batch", "read_info", "read_many", "read_planes", "save_weights", "ssd300_anchors", "train",
]  # fmt: skip
