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
    StorageError,
    StreamError,
    TrainingError,
)
from .inference.classifier import Classifier
from .inference.detector import Detector
from .inference.tiles import TiledDetector
from .jpeg import (
    JpegWarning,
    Planes,
    ReadOptions,
    fit_image,
    pixels_batch,
    read_dct,
    read_dct_batch,
    read_gray,
    read_many,
    read_planes,
    read_rgb,
)
from .keras import convert_keras
from .models import list_models
from .presets import PRESETS, get_preset
from .pretrained import create_model, list_weights, load_model, read_info
from .scale.job import predict_shards
from .torch_checkpoints import convert_torch
from .training.run import TrainingResult, train
from .transforms import JpegToTensor
from .twins import TwinConfig, make_twin
from .utils.memory import keep_freed_memory
from .weights import load_weights, save_weights

__all__ = [
    "PRESETS", "BackendUnavailable", "CheckpointError", "Classifier", "ConfigError", "DatasetError", "Detector",
    "JpegDataset", "JpegDeepError", "JpegError", "JpegToTensor", "JpegWarning", "MissingExtra", "ModelError",
    "NMSConfig", "Planes", "ReadOptions", "StorageError", "StreamError", "TiledDetector", "TrainingError",
    "TrainingResult", "TwinConfig", "convert_keras", "convert_torch", "create_model", "detect", "fit_image",
    "get_preset", "keep_freed_memory", "list_jpegs", "list_models", "list_weights", "load_model", "load_weights",
    "make_loader", "make_twin", "pixels_batch", "predict_shards", "prepare_inputs", "read_dct", "read_dct_batch",
    "read_gray", "read_info", "read_many", "read_planes", "read_rgb", "save_weights", "ssd300_anchors", "train",
]  # fmt: skip
