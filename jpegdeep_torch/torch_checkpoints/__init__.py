"""Checkpoints of PyTorch networks: torchvision's."""

from .convert import convert_torch, convert_torchvision

__all__ = ["convert_torch", "convert_torchvision"]
