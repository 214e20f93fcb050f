"""Weights in one safetensors file, which says of itself all that is needed to build its network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from .errors import CheckpointError
from .models import Network, model_from_file
from .models.weights_file import CARD_FIELDS, WeightsInfo, is_weight, load_weights, read_info, save_tensors

__all__ = [
    "CARD_FIELDS", "WeightsInfo", "describe", "load_model", "load_weights", "read_info", "save_half", "save_tensors",
    "save_weights",
]  # fmt: skip


def describe(
    model: Network,
    preset: str | None = None,
    class_names: tuple[str, ...] | None = None,
    coefficients: str | None = None,
) -> WeightsInfo:
    """The WeightsInfo of a network made by `create_model`."""
    config = model.config
    detector = config.task == "detector"
    return WeightsInfo(
        model=config.name,
        num_classes=config.num_classes,
        anchor_scales=config.anchor_scales if detector else None,
        preset=preset or ("voc" if detector else "imagenet"),
        class_names=tuple(class_names) if class_names else None,
        width=config.width,
        coefficients=coefficients,
        box_rules=config.box_rules,
    )


def save_weights(
    model: Network,
    path: str | os.PathLike[str],
    preset: str | None = None,
    class_names: tuple[str, ...] | None = None,
    coefficients: str | None = None,
) -> WeightsInfo:
    """Writes `model`'s weights, with all that `load_model` needs, to one safetensors file.

    `preset` is 'voc' for a detector and 'imagenet' for a classifier where not given.  `coefficients` ('native' or
    'reencode') is for networks that were trained on one of them.  The file appears only when it is complete.
    """
    info = describe(model, preset, class_names, coefficients)
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if is_weight(k)}
    save_tensors(state, path, info)
    return info


def save_half(source: str | os.PathLike[str], output: str | os.PathLike[str], card: Mapping[str, str]) -> WeightsInfo:
    """Writes a weights file again, its kernels in half precision, with a model card.

    Vectors stay in float32: they are few, and the variance of a coefficient may exceed 65504.  Read again, all are
    float32.

    Args:
        card: a text for each of CARD_FIELDS.

    Raises:
        CheckpointError: the source cannot be used, a kernel exceeds half precision, or the card is not complete.
    """
    if wrong := sorted({*CARD_FIELDS} ^ {*card}):
        raise CheckpointError(f"{output}: its card lacks, or has but should not: {', '.join(wrong)}")
    info = dataclasses.replace(read_info(source), card={key: card[key] for key in CARD_FIELDS})
    tensors = {key: value.half() if value.ndim > 1 else value for key, value in load_file(source).items()}
    if infinite := sorted(key for key, value in tensors.items() if not value.isfinite().all()):
        raise CheckpointError(f"{source}: not all finite in half precision: {', '.join(infinite)}")
    save_tensors(tensors, Path(output), info)
    return info


def load_model(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Network:
    """The network and the weights of a file made by `save_weights` or the converter; in eval mode, channels last.

    Returns:
        The network; its `info` holds the file's WeightsInfo.

    Raises:
        CheckpointError: the file cannot be used.
    """
    return model_from_file(path).eval().to(device).to(memory_format=torch.channels_last)
