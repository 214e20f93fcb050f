"""Networks: floating-point tensors in, tensors out."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from ..errors import ModelError
from .config import ANCHOR_SCALES, INPUT_KINDS, MODELS, ModelConfig, list_models, model_config
from .resnet import ResNetClassifier
from .ssd import SSD300
from .vgg import VGGClassifier

__all__ = [
    "ANCHOR_SCALES",
    "INPUT_KINDS",
    "MODELS",
    "ModelConfig",
    "build_model",
    "create_model",
    "list_models",
    "model_config",
]


def create_model(
    name: str,
    num_classes: int | None = None,
    anchor_scales: tuple[float, ...] | str | None = None,
    *,
    width: float = 1.0,
    seed: int | None = None,
) -> nn.Module:
    """A network with fresh weights, in eval mode and in channels-last memory.

    Args:
        name: a row of `list_models()`.
        num_classes: without the background; by default 20 for a detector, 1000 for a classifier.
        anchor_scales: of a detector: seven growing fractions of the image side, or 'voc' (default) or 'coco'.
        width: multiplies the channels; 1.0 is the published network.
        seed: makes the weights repeatable, without touching PyTorch's global generator.

    Raises:
        ModelError: the name is unknown or an argument impossible.
    """
    config = model_config(name)
    changes: dict[str, object] = {"width": width}
    if num_classes is not None:
        changes["num_classes"] = num_classes
    if anchor_scales is not None:
        changes["anchor_scales"] = _check_scales(config, anchor_scales)
    config = dataclasses.replace(config, **changes)
    if not isinstance(config.num_classes, int) or isinstance(config.num_classes, bool) or config.num_classes < 1:
        raise ModelError(f"{name}: num_classes is {config.num_classes!r}, expected a whole number of at least 1")
    if not width > 0 or not math.isfinite(width):
        raise ModelError(f"{name}: width is {width!r}, expected a positive number")
    return build_model(config, seed)


def build_model(config: ModelConfig, seed: int | None = None) -> nn.Module:
    """The network that `config` describes (see `create_model`)."""
    kind = SSD300 if config.task == "detector" else VGGClassifier if config.family == "vgg16" else ResNetClassifier
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = kind(config)
        if not next(model.parameters()).is_meta:  # where there is nothing to fill, drawing numbers only takes time
            model.apply(_initialise)
    return model.eval().to(memory_format=torch.channels_last)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # he_normal, as the reference
        nn.init.zeros_(module.bias)


def _check_scales(config: ModelConfig, scales: tuple[float, ...] | str) -> tuple[float, ...]:
    if config.task != "detector":
        raise ModelError(f"{config.name}: a classifier has no anchor scales, got {scales!r}")
    if isinstance(scales, str):
        if scales not in ANCHOR_SCALES:
            raise ModelError(
                f"unknown anchor scales {scales!r}: expected one of {', '.join(ANCHOR_SCALES)}, or 7 numbers"
            )
        return ANCHOR_SCALES[scales]
    values = tuple(float(s) for s in scales)
    if len(values) != 7 or not all(math.isfinite(s) and s > 0 for s in values):
        raise ModelError(f"{config.name}: anchor scales are {values}, expected 7 positive numbers")
    return values
