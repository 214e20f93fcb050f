"""Networks with torchvision's own weights."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from torch import nn

from .. import models
from ..errors import ModelError
from .convert import convert_torchvision
from .networks import NETWORKS


def create_model(
    name: str,
    num_classes: int | None = None,
    anchor_scales: tuple[float, ...] | str | None = None,
    *,
    width: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """A network in training mode and in channels-last memory; call its `eval()` before you predict.

    Args:
        name: a row of `list_models()`.
        num_classes: without the background; by default the weights', else 20 (detectors) or 1000 (classifiers).
        anchor_scales: of a detector: growing fractions of the image side, or 'voc' or 'coco'; by default the weights',
            else 'voc'.
        width: multiplies the channels; by default the weights', else 1.0, the published network.
        weights: a safetensors file of `save_weights` or of the converter, or 'torchvision': torchvision's own, from
            torch.hub's cache, or downloaded to it as torchvision does.  Without weights they are fresh.
        seed: makes fresh weights repeatable, without touching PyTorch's global generator.

    Returns:
        The network.  With `weights`, its `info` holds the WeightsInfo.

    Raises:
        ModelError: the name is unknown, an argument impossible, or the weights are of another network than asked for.
        CheckpointError: the weights cannot be used.
    """
    if weights != "torchvision":
        return models.create_model(name, num_classes, anchor_scales, width=width, weights=weights, seed=seed)
    theirs = {row.model: row.name for row in NETWORKS}
    if models.model_config(name).name not in theirs:
        raise ModelError(f"{name}: torchvision has no weights of it, expected one of {', '.join(theirs)}")
    with tempfile.TemporaryDirectory() as folder:
        file = convert_torchvision(theirs[name], Path(folder) / "weights.safetensors").output
        return models.create_model(name, num_classes, anchor_scales, width=width, weights=file)
