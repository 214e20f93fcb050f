"""Checkpoints of the Keras originals: reading, identifying, converting."""

from .convert import Conversion, convert_keras
from .reader import open_keras

__all__ = ["Conversion", "convert_keras", "open_keras"]
