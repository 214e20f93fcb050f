"""The SSD recipe on pixels by torchvision's transforms v2, draws and all."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from .config import AugmentationConfig

_INTERPOLATIONS = ("NEAREST", "BILINEAR", "BICUBIC")  # those that torchvision has for uint8 tensors


def augment_detection(
    pixels: np.ndarray, boxes: np.ndarray, config: AugmentationConfig, size: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB and (K, 4) boxes in its pixels -> (size, size, 3) uint8, (K, 4) float64 boxes as fractions
    of it, and (K,) bool: kept.

    Photometric changes, RandomZoomOut, RandomIoUCrop, a flip, and a resize.  All is drawn from a seed that `random`
    gives; PyTorch's own generator is put back.
    """
    # A crop needs an object, and a side of a pixel at the least.
    may_crop = config.iou_crop and len(boxes) > 0 and int(min(pixels.shape[:2]) * config.iou_crop_scale[0]) > 0
    canvas = pixels.shape[:2]
    given = tv_tensors.BoundingBoxes(torch.from_numpy(boxes).double(), format="XYXY", canvas_size=canvas)
    image, mapped = _drawn(_detection_transform(config, size, may_crop), random, _image(pixels), given)
    corners = mapped.as_subclass(Tensor).numpy().clip(0, size)  # torchvision rounds its factors
    sides = corners[:, 2:] - corners[:, :2]
    kept = ((sides > 0) & (sides >= config.min_box_px)).all(axis=1)  # those outside a crop have no area
    return _pixels(image), corners / size, kept


def augment_classification(
    pixels: np.ndarray, config: AugmentationConfig, size: int, random: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (size, size, 3) uint8: RandomResizedCrop and a flip."""
    transform = v2.Compose([
        v2.RandomResizedCrop(size, config.crop_scale, config.crop_ratio, antialias=False),
        v2.RandomHorizontalFlip(config.flip_probability),
    ])  # fmt: skip
    return _pixels(_drawn(transform, random, _image(pixels)))


@lru_cache(maxsize=4)
def _detection_transform(config: AugmentationConfig, size: int, may_crop: bool) -> v2.Transform:
    steps = [_photometric(config)]
    fill = {tv_tensors.Image: config.expand_fill_rgb, "others": 0}
    steps.append(v2.RandomZoomOut(fill, (1.0, config.expand_max_ratio), config.expand_probability))
    if may_crop:
        steps.append(v2.RandomIoUCrop(
            *config.iou_crop_scale, *config.iou_crop_aspect, list(config.iou_crop_overlaps), config.iou_crop_trials,
        ))  # fmt: skip
    steps.append(v2.RandomHorizontalFlip(config.flip_probability))
    ways = _INTERPOLATIONS if config.random_interpolation else ("BILINEAR",)
    resizes = [v2.Resize((size, size), v2.InterpolationMode[way], antialias=False) for way in ways]
    return v2.Compose([*steps, v2.RandomChoice(resizes)])


def _photometric(config: AugmentationConfig) -> v2.Transform:
    """Brightness, then contrast before saturation and hue or after them, each with its own probability.

    Brightness is a factor here, of as much either way as the shift is of 255.
    """
    shift, hue = config.brightness / 255, config.hue_deg / 360
    brightness = _perhaps(config.brightness_probability, brightness=(1 - shift, 1 + shift))
    contrast = _perhaps(config.contrast_probability, contrast=config.contrast)
    colour = [
        _perhaps(config.saturation_probability, saturation=config.saturation),
        _perhaps(config.hue_probability, hue=(-hue, hue)),
    ]
    orders = [v2.Compose([contrast, *colour]), v2.Compose([*colour, contrast])]
    return v2.Compose([brightness, v2.RandomChoice(orders)])


def _perhaps(probability: float, **limits: tuple[float, float]) -> v2.Transform:
    return v2.RandomApply([v2.ColorJitter(**limits)], probability)


def _drawn(transform: Callable, random: np.random.Generator, *inputs: Tensor):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(2**63)))
        return transform(*inputs)


def _image(pixels: np.ndarray) -> tv_tensors.Image:
    return tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def _pixels(image: Tensor) -> np.ndarray:
    return image.as_subclass(Tensor).permute(1, 2, 0).numpy()
