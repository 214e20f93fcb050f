"""Proof of a conversion: the converted network against outputs of the Keras original, stored or computed now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..detection import detect, ssd300_anchors
from ..errors import CheckpointError
from ..models import MODELS, Network
from ..presets import PRESETS, prepare_image
from ..weights import load_model
from .reader import open_keras
from .twin import build_twin, has_network, load_twin_weights

BARS = {  # output -> the largest difference that passes
    "conf": 1e-4,  # class probabilities of all anchors
    "loc": 1e-3,  # raw offsets
    "anchors": 1e-6,
    "scores": 1e-4,  # of the detections
    "boxes_px": 0.05,
    "probabilities": 1e-4,
}
_SEED = 0


@dataclass(frozen=True)
class Check:
    """One output held against the original's."""

    output: str
    difference: float  # the largest
    bar: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.difference <= self.bar  # NaN does not

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{self.output}: {self.difference:.2e} (bar {self.bar:g}) {verdict}{self.note and ': ' + self.note}"


def run_network(model: Network, inputs: list[np.ndarray], preset: str | None = None) -> dict[str, np.ndarray]:
    """Keras's inputs, (1, rows, columns, channels) each -> our answers under the names of BARS.

    `preset`: of pixels that are still to be prepared, as ssd_keras's networks take them.
    """
    tensors = [torch.from_numpy(np.asarray(x, dtype=np.float32)).permute(0, 3, 1, 2) for x in inputs]
    if preset is not None:
        tensors = [prepare_image(tensors[0], PRESETS[preset])]
    with torch.inference_mode():
        output = model(*tensors)
    if isinstance(output, Tensor):
        return {"probabilities": output.softmax(dim=-1).numpy()}
    logits, offsets = output
    anchors = ssd300_anchors(model.config.anchor_scales)
    (found,) = detect(logits[:1], offsets[:1], anchors, [(300, 300)], clip=False)
    detections = torch.cat((found["labels"][:, None], found["scores"][:, None], found["boxes"]), dim=1)
    return {
        "conf": logits.softmax(dim=-1).numpy(),
        "loc": offsets.numpy(),
        "anchors": anchors.numpy(),
        "detections": detections[None].numpy(),
    }


def compare_detections(ours: np.ndarray, theirs: np.ndarray) -> list[Check]:
    """(K, 6) rows of class, score, xmin, ymin, xmax, ymax, best first -> differences of scores and boxes.

    Every detection of theirs is paired with one of ours, of its class, at its own place in the order; only among scores
    that are equal but for the scores' bar may the order be another.  What cannot be paired counts as infinite.
    """
    if len(ours) != len(theirs):
        note = f"{len(ours)} detections, expected {len(theirs)}"
        return [Check(name, float("inf"), BARS[name], note) for name in ("scores", "boxes_px")]
    free = np.ones(len(ours), dtype=bool)
    scores, boxes, moved = [0.0], [0.0], 0
    for place, row in enumerate(theirs):
        near = free & (ours[:, 0] == row[0]) & (np.abs(ours[:, 1] - row[1]) <= BARS["scores"])
        if not near.any():
            note = f"none of ours is the original's number {place + 1} (class {row[0]:.0f}, score {row[1]:.5f})"
            return [Check(name, float("inf"), BARS[name], note) for name in ("scores", "boxes_px")]
        distance = np.where(near, np.abs(ours[:, 2:] - row[2:]).max(axis=1), np.inf)
        chosen = place if distance[place] <= BARS["boxes_px"] else int(distance.argmin())
        free[chosen] = False
        moved += chosen != place
        scores.append(abs(float(ours[chosen, 1] - row[1])))
        boxes.append(float(distance[chosen]))
    note = f"{len(theirs)} detections" + (f", {moved} of them among equal scores in another order" if moved else "")
    return [Check("scores", max(scores), BARS["scores"], note), Check("boxes_px", max(boxes), BARS["boxes_px"])]


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[Check]:
    """All outputs that the original's answers hold."""
    checks: list[Check] = []
    for name in ours:
        if name not in theirs:
            continue
        if name == "detections":
            checks += compare_detections(ours[name][0], theirs[name][0])
        elif ours[name].shape != theirs[name].shape:
            raise CheckpointError(f"{name}: shape {ours[name].shape}, the original's is {theirs[name].shape}")
        else:
            checks.append(Check(name, float(np.abs(ours[name] - theirs[name]).max()), BARS[name]))
    return checks


def verify_golden(weights: str | os.PathLike[str], golden: str | os.PathLike[str], raw_pixels: bool) -> list[Check]:
    """A converted file against stored inputs and outputs.

    Args:
        weights: safetensors file.
        golden: .npz with `input_0`, `input_1`, ... (channels last, as the original took them) and any of `conf`, `loc`,
            `anchors`, `detections`, `probabilities`.
        raw_pixels: the original prepares its pixels itself, as ssd_keras's networks do.
    """
    try:
        with np.load(golden, allow_pickle=False) as file:
            stored = dict(file)
    except Exception as error:  # zipfile, numpy and zlib have each their own
        raise CheckpointError(f"{golden}: not a readable .npz file ({type(error).__name__}: {error})") from None
    model = load_model(weights)
    wanted = len(model.config.input_shapes())
    inputs = [stored[f"input_{i}"] for i in range(wanted) if f"input_{i}" in stored]
    if len(inputs) != wanted or f"input_{wanted}" in stored:
        names = sorted(key for key in stored if key.startswith("input_"))
        raise CheckpointError(f"{golden}: holds the inputs {names}, {model.config.name} takes {wanted}")
    channels = [c for c, _, _ in model.config.input_shapes().values()]
    if [x.shape[-1] for x in inputs] != channels or any(x.ndim != 4 for x in inputs):
        raise CheckpointError(
            f"{golden}: inputs of shape {[x.shape for x in inputs]}, {model.config.name} takes (1, rows, columns, "
            f"channels) with {channels} channels"
        )
    try:
        checks = compare(run_network(model, inputs, model.info.preset if raw_pixels else None), stored)
    except CheckpointError as error:
        raise CheckpointError(f"{golden}: {error}") from None
    if not checks:
        raise CheckpointError(f"{golden}: holds none of the outputs {', '.join(BARS)}")
    return checks


def verify_twin(weights: str | os.PathLike[str], source: str | os.PathLike[str], raw_pixels: bool) -> list[Check]:
    """A converted file against the Keras network that the source's own `model_config` describes, on seeded inputs.

    Raises MissingExtra without TensorFlow and CheckpointError where the source has no `model_config`.
    """
    with open_keras(source) as file:
        if file.config is None or not has_network(file.config):
            raise CheckpointError(
                f"{Path(source)}: a weights-only file does not describe its network, so no Keras twin can be built: "
                "compare with stored outputs"
            )
        model = load_model(weights)
        twin = build_twin(file.config, MODELS[model.config.name].image_size)
        load_twin_weights(twin, file)
    inputs = seeded_inputs(model)
    answer = np.asarray(twin.predict(inputs, verbose=0))
    if model.config.task == "classifier":
        theirs = {"probabilities": answer}
    else:
        classes = model.config.num_classes + 1
        theirs = {
            "conf": answer[..., :classes],
            "loc": answer[..., classes : classes + 4],
            "anchors": answer[0, :, classes + 4 : classes + 8],
        }
    return compare(run_network(model, inputs, model.info.preset if raw_pixels else None), theirs)


def seeded_inputs(model: Network) -> list[np.ndarray]:
    """Inputs of a network, channels last, batch 1: bytes as pixels, coefficients that fall off with their frequency."""
    random = np.random.default_rng(_SEED)
    inputs = []
    for channels, rows, columns in model.config.input_shapes().values():
        shape = (1, rows, columns, channels)
        if model.config.is_dct:
            spread = np.tile(400 / (1 + np.arange(64)), channels // 64)
            inputs.append(np.round(random.laplace(0, 1, shape) * spread).astype(np.float32))
        else:
            inputs.append(random.integers(0, 256, shape).astype(np.float32))
    return inputs
