"""A detector started from another network's checkpoint, usually a classifier's."""

from __future__ import annotations

import dataclasses
import functools

from ..models.vgg import dense_to_convolution
from .identify import Match
from .names import Piece, slots
from .reader import Weight

_DENSE = {"fc6": "fc1", "fc7": "fc2"}  # a detector's convolutions, and the classifier's dense layers they come from


def plan_transfer(
    layers: dict[str, dict[str, Weight]], found: Match, to: str, classes: int
) -> tuple[list[Piece], list[str]]:
    """(what of the file's `layers` goes where in the detector `to`, Keras weights that have no place in it).

    Layers are taken by name, where the shapes agree: so an RGB classifier gives a DCT detector the layers they share.
    """
    held = {(name, slot.weight): (slot, weight) for slot, weight in found.found.values() for name in slot.layers}
    dense = found.model.startswith("vgg16")
    pieces: list[Piece] = []
    for slot in slots(to, classes, found.flavour, found.width):
        if dense and slot.layers[0] in _DENSE:
            theirs, weight = held.get((_DENSE[slot.layers[0]], slot.weight), (None, None))
            if theirs is not None and weight is not None:
                cut = functools.partial(dense_to_convolution, channels=slot.shapes[0][-1])
                pieces.append(Piece(dataclasses.replace(theirs, key=slot.key), weight, cut))
            continue
        weight = next((held[name, slot.weight][1] for name in slot.layers if (name, slot.weight) in held), None)
        if weight is not None and weight.shape in slot.shapes:
            pieces.append(Piece(slot, weight))
    used = {piece.weight.path for piece in pieces}
    held_in_file = [weight for parts in layers.values() for weight in parts.values()]
    return pieces, [weight.path.lstrip("/") for weight in held_in_file if weight.path not in used]
