"""Weights to start from: those of a file, such as a classifier's, or fresh ones fitted to the data."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.vgg import DENSE_CHANNELS, DENSE_TAPS
from ..weights import read_info

_MOST_SHRINKING = 2.0  # of a layer's kernel: a step of the optimizer must not be large beside it


def initialize(model: nn.Module, path: str | os.PathLike[str]) -> str:
    """Copies into `model` what fits of a weights file -> a line that says how much that was.

    Taken are tensors of the same name and shape; of a VGG classifier, a detector takes fc1 and fc2 as fc6 and fc7,
    subsampled as SSD does (arXiv 1512.02325, section 3).  A DCT detector takes from an RGB classifier the layers that
    they share.  Class heads are taken where the classes are as many.

    CheckpointError: the file cannot be read.  ConfigError: nothing of it fits.
    """
    info = read_info(path)
    held = load_file(path)
    if info.model.startswith("vgg16") and model.config.task == "detector":
        held = _as_detector(held)
    own = model.state_dict()
    fitting = {key: value for key, value in held.items() if key in own and own[key].shape == value.shape}
    if not any(value.ndim > 1 for value in fitting.values()):
        raise ConfigError(f"{path}: weights of {info.model}, none of which fit {model.config.name} (model.init)")
    with torch.no_grad():
        for key, value in fitting.items():
            own[key].copy_(value)
    fresh = sorted({key.rpartition(".")[0] for key in own if key not in fitting and "num_batches" not in key})
    left = f"; fresh: {', '.join(fresh)}" if fresh else ""
    return f"{len(fitting)} of {len(held)} tensors taken from {path} ({info.model}){left}"


def _as_detector(held: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VGG classifier's tensors under the detector's names."""
    renamed = {f"trunk.base.{key.removeprefix('trunk.')}": v for key, v in held.items() if key.startswith("trunk.")}
    if held["fc1.weight"].shape[0] % 4 == 0:
        renamed["trunk.fc6.weight"] = held["fc1.weight"][DENSE_CHANNELS, :, DENSE_TAPS, DENSE_TAPS].contiguous()
        renamed["trunk.fc6.bias"] = held["fc1.bias"][DENSE_CHANNELS].contiguous()
        renamed["trunk.fc7.weight"] = held["fc2.weight"][DENSE_CHANNELS, DENSE_CHANNELS].contiguous()
        renamed["trunk.fc7.bias"] = held["fc2.bias"][DENSE_CHANNELS].contiguous()
    return renamed


def scale_to_data(model: nn.Module, run: Callable[[], object]) -> None:
    """Divides each layer's fresh kernel by the standard deviation of its outputs on some data, by 2 at most.

    `run` passes the data through `model`.  This is layer-sequential unit variance (arXiv 1511.06422), made gentler: a
    VGG without batch normalisation, fed with pixels of -124 to 151, starts with outputs in the thousands otherwise.
    Were the first kernel alone to make up for that, it would be small beside the optimizer's steps.
    """
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]

    def rescale(layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
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
