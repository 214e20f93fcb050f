"""Weights to start from: those of a file, such as a classifier's, or fresh ones fitted to the data."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ConfigError
from ..models import MODELS, Network, create_model
from ..models.vgg import dense_to_convolution
from ..pretrained import WEIGHTS, weights_file
from ..weights import read_info

_MOST_SHRINKING = 2.0  # of a layer's kernel: a step of the optimizer must not be large beside it


def initialize(model: Network, path: str | os.PathLike[str]) -> str:
    """Copies into `model` what fits of a weights file, or of weights with a name -> a line that says how much that was.

    Taken are tensors of the same name and shape; of a VGG classifier, a detector takes fc1 and fc2 as fc6 and fc7,
    subsampled as SSD does (arXiv 1512.02325, section 3).  A DCT detector takes from an RGB classifier the layers that
    they share.  Class heads are taken where the classes are as many.

    CheckpointError: the file cannot be read.  ConfigError: nothing of it fits.
    """
    with _opened(path, model.config.name) as file:
        info, held = read_info(file), load_file(file)
    own = model.state_dict()
    fitting = _fitting(held, info.model, model, path)
    with torch.no_grad():
        for key, value in fitting.items():
            own[key].copy_(value)  # from half precision as well
    fresh = sorted({key.rpartition(".")[0] for key in own if key not in fitting and "num_batches" not in key})
    left = f"; fresh: {', '.join(fresh)}" if fresh else ""
    return f"{len(fitting)} of {len(held)} tensors taken from {path} ({info.model}){left}"


def _opened(source: str | os.PathLike[str], name: str) -> AbstractContextManager[Path]:
    """The file that `source` is, or that the weights of this name are for the network `name`.

    Where they are for several, those of the network itself come first, then its classifier's, then its family's.
    """
    wanted = (name, name.partition("_")[2], MODELS[name].family)
    having = {row.model for row in WEIGHTS if row.name == source}
    model = next((model for model in wanted if model in having), None)
    return weights_file(source, model)


def check_init(path: str | os.PathLike[str], name: str, num_classes: int | None, width: float) -> None:
    """Raises what `initialize` would, without reading any weights; `num_classes` None: not known."""
    with _opened(path, name) as opened:
        info = read_info(opened)
        with safe_open(opened, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - not a mapping
    with torch.device("meta"):  # shapes without memory
        model = create_model(name, num_classes, width=width)
        held = {key: torch.empty(shape) for key, shape in shapes.items()}
    _fitting(held, info.model, model, path)


def _fitting(held: dict[str, Tensor], source: str, model: Network, path: object) -> dict[str, Tensor]:
    """The tensors of a file with weights of `source` that `model` takes; ConfigError where no kernel is among them."""
    own = model.state_dict()
    if source.startswith("vgg16") and model.config.task == "detector":
        held = _as_detector(held, own)
    fitting = {key: value for key, value in held.items() if key in own and own[key].shape == value.shape}
    if not any(value.ndim > 1 for value in fitting.values()):
        raise ConfigError(
            f"{path}: weights of {source}, none of which fit {model.config.name} of width {model.config.width:g}, "
            "expected some of the same names and shapes (model.init)"
        )
    return fitting


def _as_detector(held: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VGG classifier's tensors under the detector's names, the dense layers cut down to fc6 and fc7."""
    renamed = {f"trunk.base.{key.removeprefix('trunk.')}": v for key, v in held.items() if key.startswith("trunk.")}
    if {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"} <= held.keys() and "trunk.fc6.weight" in own:
        cut = {
            f"trunk.{to}.{kind}": dense_to_convolution(held[f"{fc}.{kind}"], len(own["trunk.fc6.bias"]))
            for fc, to in (("fc1", "fc6"), ("fc2", "fc7"))
            for kind in ("weight", "bias")
        }
        if cut["trunk.fc6.weight"].shape == own["trunk.fc6.weight"].shape:  # behind another fc6, fc7's mean nothing
            renamed |= cut
    return renamed


def scale_to_data(model: nn.Module, run: Callable[[], object]) -> None:
    """Divides each layer's fresh kernel by the standard deviation of its outputs on some data, by 2 at most.

    `run` passes the data through `model`.  This is layer-sequential unit variance (arXiv 1511.06422), made gentler: a
    VGG without batch normalisation, fed with pixels of -124 to 151, starts with outputs in the thousands otherwise.
    Were the first kernel alone to make up for that, it would be small beside the optimizer's steps.
    """
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]

    def rescale(layer: Any, _inputs: object, output: Tensor) -> Tensor:
        deviation = output.detach().float().std().clamp(min=1e-6, max=_MOST_SHRINKING)
        layer.weight.data.div_(deviation)
        return output / deviation  # fresh biases are zero

    hooks = [layer.register_forward_hook(rescale) for layer in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
