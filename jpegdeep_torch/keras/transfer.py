"""A detector started from another network's checkpoint, usually a classifier's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from .identify import Match, best_match
from .names import Slot, slots
from .reader import KerasFile, Weight

REDUCTIONS = ("zoom", "subsample")
_CHANNELS = slice(None, None, 4)  # 4096 -> 1024: every 4th
_TAPS = slice(None, None, 3)  # 7x7 -> 3x3: taps 0, 3 and 6


def fc1_to_fc6(fc1: np.ndarray, reduction: str) -> np.ndarray:
    """fc1's kernel (7 * 7 * C, 4096) or (7, 7, C, 4096), Keras layout -> fc6's (3, 3, C, 1024).

    'subsample' keeps every 3rd tap and every 4th output, as SSD (arXiv 1512.02325, section 3) and DeepLab do.  'zoom'
    is the reference's `scipy.ndimage.zoom(kernel, (0.42857, 0.42857, 1, 1))`: a cubic spline read at coordinates
    i * (7 - 1) / (3 - 1) = 0, 3 and 6.  An interpolating spline passes through its samples, so it gives back the very
    same taps, to rounding (a test holds this against SciPy): the two options name one result.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, expected one of {', '.join(REDUCTIONS)}")
    kernel = fc1.reshape(7, 7, -1, fc1.shape[-1])
    return kernel[_TAPS, _TAPS, :, _CHANNELS]


def fc2_to_fc7(fc2: np.ndarray) -> np.ndarray:
    """fc2's kernel (4096, 4096) -> fc7's (1, 1, 1024, 1024): every 4th input and output."""
    return fc2.reshape(1, 1, fc2.shape[-2], fc2.shape[-1])[:, :, _CHANNELS, _CHANNELS]


def _cut(slot: Slot, value: np.ndarray, reduction: str) -> np.ndarray:
    if slot.weight == "bias":
        return value[_CHANNELS]
    return fc1_to_fc6(value, reduction) if slot.layers[0] == "fc6" else fc2_to_fc7(value)


def plan_transfer(
    file: KerasFile,
    to: str,
    classes: int,
    reduction: str,
    refuse: Callable[[KerasFile, Match], None],
    read: Callable[[KerasFile, Slot, Weight, list[str]], np.ndarray],
) -> tuple[dict[str, Tensor], list[str], Match]:
    """(our tensors for the detector `to`, Keras weights that have no place in it, what the file is).

    Layers are taken by name, where the shapes agree: so an RGB classifier gives a DCT detector the layers they share.
    """
    found = best_match(file)
    refuse(file, found)
    by_layer = {
        (name, slot.weight): pair for pair in found.found.values() for slot in [pair[0]] for name in slot.layers
    }
    dense = found.model.startswith("vgg16")
    problems: list[str] = []
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    for slot in slots(to, classes, found.flavour):
        cut = dense and slot.layers[0] in ("fc6", "fc7")
        names = ({"fc6": "fc1", "fc7": "fc2"}[slot.layers[0]],) if cut else slot.layers
        pair = next((by_layer[n, slot.weight] for n in names if (n, slot.weight) in by_layer), None)
        if pair is None or not (cut or pair[1].shape in slot.shapes):
            continue
        value = read(file, pair[0], pair[1], problems)
        if cut:
            value = _cut(slot, value, reduction)
        tensors[slot.key] = torch.from_numpy(np.ascontiguousarray(slot.to_torch(value)))
        used.add(pair[1].path)
    if problems:
        raise CheckpointError(f"{file.path}: unusable weights ({len(problems)}): " + "; ".join(problems))
    if not tensors:
        raise CheckpointError(f"{file.path}: holds {found.model}, which has no layer in common with {to}")
    left_out = [weight.path.lstrip("/") for _, weight in found.found.values() if weight.path not in used]
    return tensors, left_out, found
