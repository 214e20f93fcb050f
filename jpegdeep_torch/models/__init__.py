"""Networks: floating-point tensors in, tensors out."""

from __future__ import annotations

import dataclasses
import math
import os

import torch
from torch import nn

from ..errors import CheckpointError, ModelError
from .config import ANCHOR_SCALES, INPUT_KINDS, MODELS, ModelConfig, checked_scales, list_models, model_config
from .mobilenet_v2 import MobileNetV2Classifier
from .network import Network
from .resnet import ResNetClassifier
from .ssd import SSD
from .ssdlite import SSDLite
from .vgg import VGGClassifier
from .weights_file import load_weights, read_info

__all__ = [
    "ANCHOR_SCALES",
    "INPUT_KINDS",
    "MODELS",
    "ModelConfig",
    "Network",
    "checked_scales",
    "create_model",
    "initialise",
    "list_models",
    "model_config",
    "model_from_file",
]

_NETWORKS: dict[str, dict[str, type[Network]]] = {
    "vgg16": {"classifier": VGGClassifier, "detector": SSD},
    "resnet50": {"classifier": ResNetClassifier, "detector": SSD},
    "mobilenet_v2": {"classifier": MobileNetV2Classifier, "detector": SSDLite},
}


def create_model(
    name: str,
    num_classes: int | None = None,
    anchor_scales: tuple[float, ...] | str | None = None,
    *,
    width: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    seed: int | None = None,
) -> Network:
    """A network in training mode and in channels-last memory; call its `eval()` before you predict.

    Args:
        name: a row of `list_models()`.
        num_classes: without the background; by default the weights file's, else 20 (detectors) or 1000 (classifiers).
        anchor_scales: of a detector: seven growing fractions of the image side, or 'voc' or 'coco'; by default the
            weights file's, else 'voc'.
        width: multiplies the channels; by default the weights file's, else 1.0, the published network.
        weights: a safetensors file of `save_weights` or of the converter.  `jpegdeep_torch.create_model` also takes the
            name of weights, such as 'torchvision'.  Without weights they are fresh.
        seed: makes fresh weights repeatable, without touching PyTorch's global generator.

    Returns:
        The network.  With `weights`, its `info` holds the file's WeightsInfo.

    Raises:
        ModelError: the name is unknown, an argument impossible, or the file holds another network than was asked for.
        CheckpointError: the weights cannot be used.
    """
    if weights is None:
        return _build(_checked(name, num_classes, anchor_scales, 1.0 if width is None else width), seed)
    scales = None if anchor_scales is None else checked_scales(model_config(name), anchor_scales)
    info = read_info(weights)
    asked = {"model": name, "num_classes": num_classes, "anchor_scales": scales, "width": width}
    wrong = [
        f"{key} {getattr(info, key)!r}, asked for {value!r}"
        for key, value in asked.items()
        if value is not None and value != getattr(info, key)
    ]
    if wrong:
        raise ModelError(f"{weights}: has {'; '.join(wrong)}")
    return model_from_file(weights)


def model_from_file(path: str | os.PathLike[str]) -> Network:
    """`create_model` with whatever the weights file says.  Raises CheckpointError."""
    info = read_info(path)
    try:
        config = _checked(info.model, info.num_classes, info.anchor_scales, info.width)
        config = dataclasses.replace(config, box_rules=info.box_rules)
    except ModelError as error:
        raise CheckpointError(f"{path}: {error}") from None
    with torch.device("meta"):  # the memory comes with the file's tensors
        model = _build(config)
    load_weights(model, path)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.tensor(0)
    model.info = info
    return model.to(memory_format=torch.channels_last)


def _checked(name: str, num_classes: int | None, scales: tuple[float, ...] | str | None, width: float) -> ModelConfig:
    """The row `name` with these changes.  Raises ModelError."""
    config = model_config(name)
    config = dataclasses.replace(
        config,
        width=width,
        num_classes=config.num_classes if num_classes is None else num_classes,
        anchor_scales=config.anchor_scales if scales is None else checked_scales(config, scales),
    )
    if not isinstance(config.num_classes, int) or isinstance(config.num_classes, bool) or config.num_classes < 1:
        raise ModelError(f"{name}: num_classes is {config.num_classes!r}, expected a whole number of at least 1")
    if not width > 0 or not math.isfinite(width):
        raise ModelError(f"{name}: width is {width!r}, expected a positive number")
    return config


def _build(config: ModelConfig, seed: int | None = None) -> Network:
    """The network that `config` describes (see `create_model`)."""
    kind = _NETWORKS[config.family][config.task]
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = kind(config)
        if not next(model.parameters()).is_meta:  # where there is nothing to fill, drawing numbers only takes time
            model.apply(initialise)
    return model.to(memory_format=torch.channels_last)


def initialise(module: nn.Module) -> None:
    """Fresh weights for one layer, drawn from PyTorch's global generator."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # he_normal, as the reference
        if module.bias is not None:
            nn.init.zeros_(module.bias)
