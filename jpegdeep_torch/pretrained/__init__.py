"""Weights that are had by name: `create_model(MODEL, weights=NAME)`, `Detector.load(NAME)`."""

from .load import create_model, load_model, read_info, weights_file
from .table import WEIGHTS, PretrainedWeights, find_weights, list_weights

__all__ = [
    "WEIGHTS", "PretrainedWeights", "create_model", "find_weights", "list_weights", "load_model", "read_info",
    "weights_file",
]  # fmt: skip
