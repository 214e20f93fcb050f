"""What a person is told of a checkpoint and of its conversion."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from ..models import list_models, model_config
from ..models.config import PUBLISHED_RULES
from ..utils.messages import MOST_ITEMS, listed, shown
from .convert import Conversion
from .identify import best_match
from .reader import open_keras

_MOST_NAMES = 12  # of a list on one line


def summary(done: Conversion, flags: Mapping[str, str] | None = None) -> str:
    """The lines printed after a conversion.

    flags: how a command calls arguments, for those that change what was assumed.
    """
    flags = flags or {}
    info = done.info
    rows = [
        ("source", f"{done.source} ({done.origin})"),
        ("network", info.model + (f", {info.width:g} times its width" if info.width != 1 else "")),
        ("classes", str(info.num_classes)),
    ]
    if info.anchor_scales:
        rows.append(("anchor scales", f"{', '.join(f'{s:g}' for s in info.anchor_scales)} ({done.scales_reason})"))
    rows += [("parameters", f"{done.parameters:,}"), ("preset", f"{info.preset} ({done.preset_reason})")]
    names = f"{_some(info.class_names)} ({done.classes_reason})" if info.class_names else "unknown"
    rows.append(("class names", names))
    if info.mean is not None:
        rows.append(("mean", f"{', '.join(f'{m:g}' for m in info.mean)}, in place of the preset's"))
    if info.box_rules != PUBLISHED_RULES:
        rows.append(("anchors", f"steps {info.box_rules.steps}, clipped: {info.box_rules.clip}"))
    for assumption in done.assumed:
        flag = flags.get(assumption.argument or "")
        rows.append(("assumed", f"{assumption.text} ({flag})" if flag else str(assumption)))
    if done.initial:
        rows.append(("initial values", f"{len(done.initial)} tensors: {_modules(done.initial)}"))
    if done.left_out:
        rows.append(("left out", f"{len(done.left_out)} weights: {_some(done.left_out)}"))
    rows.append(("source sha256", str(info.source_sha256)))
    if done.output_sha256 is None:
        rows.append(("would write", str(done.output)))
    else:
        rows += [("output", str(done.output)), ("output sha256", done.output_sha256)]
    rows.append(("time", f"{done.seconds:.1f} s"))
    return "\n".join(f"{label + ':':16}{value}" for label, value in rows)


def _some(names: tuple[str, ...] | list[str]) -> str:
    return listed(names, ", ", _MOST_NAMES)


def _modules(keys: list[str]) -> str:
    """State-dict keys -> the layers they belong to, all of them, in order."""
    return ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def listing(path: str | os.PathLike[str]) -> str:
    """What a Keras file holds: every layer's weights, and the network they fit best.  Raises CheckpointError."""
    with open_keras(path) as file:
        lines = [f"{file.path}: {file.origin}"]
        parameters = 0
        for layer, weights in file.layers.items():
            shapes = listed((f"{kind} {'x'.join(map(str, w.shape)) or 'scalar'}" for kind, w in weights.items()), ", ")
            lines.append(f"  {shown(layer)}: {shapes}")
            parameters += sum(int(np.prod(w.shape, dtype=object)) for w in weights.values())
        lines.append(f"{len(file.layers)} layers with weights, {parameters:,} values")
        lines += [f"problem: {problem}" for problem in file.problems[:MOST_ITEMS]]
        if file.layers:
            found = best_match(file)
            fit = "fits, without heads" if found.fits and found.problems else "fits"
            fit = fit if found.fits else f"{len(found.problems)} differences"
            lines.append(f"nearest network: {found.model} ({found.flavour}), {found.num_classes} classes: {fit}")
    return "\n".join(lines)


def known_detectors() -> str:
    """The names of all detectors, as one line."""
    return ", ".join(name for name in list_models() if model_config(name).task == "detector")
