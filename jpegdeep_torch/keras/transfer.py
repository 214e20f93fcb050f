"""A detector started from another network's checkpoint, usually a classifier's."""

from __future__ import annotations

import functools

import numpy as np

from ..models.vgg import DENSE_CHANNELS, DENSE_TAPS
from .identify import Match
from .names import Piece, Slot, slots

REDUCTIONS = ("zoom", "subsample")
_DENSE = {"fc6": "fc1", "fc7": "fc2"}  # a detector's convolutions, and the classifier's dense layers they come from


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
    return kernel[DENSE_TAPS, DENSE_TAPS, :, DENSE_CHANNELS]


def fc2_to_fc7(fc2: np.ndarray) -> np.ndarray:
    """fc2's kernel (4096, 4096) -> fc7's (1, 1, 1024, 1024): every 4th input and output."""
    return fc2.reshape(1, 1, fc2.shape[-2], fc2.shape[-1])[:, :, DENSE_CHANNELS, DENSE_CHANNELS]


def _cut(slot: Slot, reduction: str, value: np.ndarray) -> np.ndarray:
    if slot.weight == "bias":
        return value[DENSE_CHANNELS]
    return fc1_to_fc6(value, reduction) if slot.layers[0] == "fc6" else fc2_to_fc7(value)


def plan_transfer(found: Match, to: str, classes: int, reduction: str) -> tuple[list[Piece], list[str]]:
    """(what of the file goes where in the detector `to`, Keras weights that have no place in it).

    Layers are taken by name, where the shapes agree: so an RGB classifier gives a DCT detector the layers they share.
    """
    held = {(name, slot.weight): weight for slot, weight in found.found.values() for name in slot.layers}
    dense = found.model.startswith("vgg16")
    pieces: list[Piece] = []
    for slot in slots(to, classes, found.flavour, found.width):
        cut = dense and slot.layers[0] in _DENSE
        names = (_DENSE[slot.layers[0]],) if cut else slot.layers
        weight = next((held[name, slot.weight] for name in names if (name, slot.weight) in held), None)
        if weight is None or not (cut or weight.shape in slot.shapes):
            continue
        change = functools.partial(_cut, slot, reduction) if cut else None
        pieces.append(Piece(slot, weight, change))
    used = {piece.weight.path for piece in pieces}
    return pieces, [weight.path.lstrip("/") for _, weight in found.found.values() if weight.path not in used]
