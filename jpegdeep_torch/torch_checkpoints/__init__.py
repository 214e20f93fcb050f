"""Checkpoints of PyTorch networks: torchvision's SSD300, VGG-16 and ResNet-50."""

from .convert import convert_torch, convert_torchvision
from .hub import create_model

__all__ = ["convert_torch", "convert_torchvision", "create_model"]
