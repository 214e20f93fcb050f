"""Weights that are had by name: `create_model(MODEL, weights=NAME)`, `Detector.load(NAME)`."""

from .load import create_model, load_model, weights_file
from .table import WEIGHTS, PretrainedWeights, find_weights

__all__ = ["WEIGHTS", "PretrainedWeights", "create_model", "find_weights", "load_model", "weights_file"]
