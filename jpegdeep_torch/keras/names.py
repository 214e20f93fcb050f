"""Which Keras layer holds which weights of our networks, and in what form."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..models import create_model, model_config
from ..models.layers import L2Normalization
from .reader import Weight

HEADS = ("block4_conv3_norm", "fc7", *(f"conv{i}_2" for i in range(6, 11)))  # what each pair of heads reads
# The projects' names for the same layers; bubbliiiing's ssd-keras has ssd_keras's names.
JPEG_DEEP, SSD_KERAS, BUBBLIIIING, KERAS_APPLICATIONS = (
    "jpeg_deep", "ssd_keras", "bubbliiiing/ssd-keras", "keras-applications",
)  # fmt: skip

# Other names of a layer: classifiers and detectors of the reference disagree, and some layers were left unnamed there.
_ALIASES = {
    "b_norm_y": ("b_norm_64",),
    "b_norm_cbcr": ("b_norm_128",),
}
UNNAMED = {"deconv_cb": ("conv2d_transpose", 0), "deconv_cr": ("conv2d_transpose", 1)}  # n-th layer called so

_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


@dataclass(frozen=True)
class Slot:
    """One of our tensors and where a Keras file keeps it."""

    key: str  # in our state dict
    layers: tuple[str, ...]  # accepted Keras layer names, the usual one first
    weight: str  # kernel, bias, gamma, ...
    shapes: tuple[tuple[int, ...], ...]  # accepted shapes in the file, the usual one first
    to_torch: Callable[[np.ndarray], np.ndarray]


class Piece(NamedTuple):
    """One dataset of a file on its way into one of our tensors."""

    slot: Slot
    weight: Weight
    change: Callable[[Tensor], Tensor] | None = None  # applied last, in PyTorch's layout
    adapt: Callable[[np.ndarray], np.ndarray] | None = None  # applied first, in Keras's layout


def _kernel(spatial: tuple[int, int], channels: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    """Keras's kernel (rows, columns, a, b), or its flattened dense form, -> ours (b, a, rows, columns)."""
    return lambda value: value.reshape(*spatial, *channels).transpose(3, 2, 0, 1)


def _kernel_slot(module: nn.Module) -> tuple[tuple[tuple[int, ...], ...], Callable[[np.ndarray], np.ndarray]]:
    if isinstance(module, nn.Linear):
        out, channels = module.weight.shape
        return ((channels, out), (1, 1, channels, out)), lambda value: value.reshape(channels, out).T
    b, a, rows, columns = module.weight.shape  # a transposed convolution's kernel is (rows, columns, out, in) in Keras
    usual = (rows, columns, a, b)
    dense = (rows * columns * a, b)
    return (usual, dense), _kernel((rows, columns), (a, b))


def keras_names(path: str, model: nn.Module, flavour: str = JPEG_DEEP) -> tuple[str, ...]:
    """The Keras names of the layer that our module at `path` stands for."""
    *_, parent, last = ["", *path.split(".")]
    spec = model.config.trunk
    if parent == "class_heads" or parent == "box_heads":
        name = f"{HEADS[int(last)]}_mbox_{'conf' if parent == 'class_heads' else 'loc'}"
    elif last == "source_norm":
        name = HEADS[0]
    elif last in ("luma_norm", "chroma_norm"):
        name = getattr(spec, last, None) or "bn_cbcr"
    elif parent in UNNAMED or last in UNNAMED:
        name = last
    elif last.startswith("branch"):
        block, branch = parent, last.removesuffix("_bn")
        if flavour == KERAS_APPLICATIONS and re.fullmatch("[2-5][a-f]", block):
            place = {"branch1": 0, "branch2a": 1, "branch2b": 2, "branch2c": 3}[branch]
            kind = "bn" if last.endswith("_bn") else "conv"
            return (f"conv{block[0]}_block{'abcdef'.index(block[1]) + 1}_{place}_{kind}",)
        prefix = "bn" if last.endswith("_bn") else "res"
        names = [f"{prefix}{block}_{branch}"]
        if model.config.task == "detector" and model.config.inputs == "dct_split" and block == "2a":
            names.append(f"{prefix}1a_{branch}")  # the reference's detector calls this block 1a, its classifier 2a
        return tuple(names)
    else:
        name = last
    if flavour == KERAS_APPLICATIONS:
        name = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions"}.get(name, name)
    if flavour in (SSD_KERAS, BUBBLIIIING):
        name = re.sub(r"^block(\d)_conv(\d)", r"conv\1_\2", name)
    return (name, *_ALIASES.get(name, ()))


@functools.lru_cache(maxsize=64)
def slots(name: str, num_classes: int, flavour: str = JPEG_DEEP, width: float = 1.0) -> tuple[Slot, ...]:
    """Every tensor of the network `name`, with its place in a Keras file."""
    with torch.device("meta"):
        model = create_model(name, num_classes, width=width)
    rows: list[Slot] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            parts = {kind: (ours, ((module.num_features,),), _same) for kind, ours in _BATCH_NORM.items()}
        elif isinstance(module, L2Normalization):
            parts = {"gamma": ("weight", (tuple(module.weight.shape),), _same)}
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            parts = {
                "kernel": ("weight", *_kernel_slot(module)),
                "bias": ("bias", (tuple(module.bias.shape),), _same),
            }
        else:
            continue
        layers = keras_names(path, model, flavour)
        rows += [Slot(f"{path}.{ours}", layers, kind, *rest) for kind, (ours, *rest) in parts.items()]
    return tuple(rows)


def _same(value: np.ndarray) -> np.ndarray:
    return value


def head_layers(name: str, flavour: str = JPEG_DEEP) -> dict[str, int]:
    """{layer whose bias tells the number of classes: biases per class}."""
    config = model_config(name)
    if config.task == "detector":
        first = HEADS[0] if flavour == JPEG_DEEP else "conv4_3_norm"
        return {
            f"{head}_mbox_conf": boxes
            for head, boxes in zip((first, *HEADS[1:]), (m.boxes for m in config.feature_maps))
        }
    return {"fc1000" if name.startswith("resnet") and flavour == JPEG_DEEP else "predictions": 1}
