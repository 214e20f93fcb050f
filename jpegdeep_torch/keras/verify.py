"""Proof of a conversion: the converted network against outputs of the Keras original, stored or computed now."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..detection import anchor_boxes, decode_boxes, detect
from ..detection.anchors import VARIANCES
from ..errors import CheckpointError
from ..models import ModelConfig, Network
from ..presets import Preset, prepare_image
from ..weights import load_model
from .reader import open_keras
from .twin import build_twin, has_network, load_twin_weights, prepares_pixels, suppressed

BARS = {  # output -> the largest difference that passes
    "conf": 1e-4,  # class probabilities of all anchors
    "loc": 1e-3,  # raw offsets
    "boxes": 0.05,  # of all anchors, in pixels; in proportion to the largest where that lies far outside the image
    "anchors": 1e-6,
    "scores": 1e-4,  # of the detections
    "boxes_px": 0.05,
    "probabilities": 1e-4,
    "logits": 1e-4,  # of a classifier, up to 50, and in proportion above
}
_FAR_PX = 1000.0
_LARGE_LOGIT = 50.0
_OFFSETS_RELATIVE = 6e-6  # of the largest
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


def run_network(model: Network, inputs: list[np.ndarray], preset: Preset | None = None) -> dict[str, np.ndarray]:
    """Keras's inputs, (1, rows, columns, channels) each -> our answers under the names of BARS.

    `preset`: of pixels that are still to be prepared, as ssd_keras's networks take them.
    """
    tensors = [torch.from_numpy(np.asarray(x, dtype=np.float32)).permute(0, 3, 1, 2) for x in inputs]
    if preset is not None:
        tensors = [prepare_image(tensors[0], preset)]
    with torch.inference_mode():
        output = model(*tensors)
    if isinstance(output, Tensor):
        return {"probabilities": output.softmax(dim=-1).numpy(), "largest_logit": output.abs().amax().numpy()}
    logits, offsets = output
    anchors, side = anchor_boxes(model.config), model.config.image_size
    (found,) = detect(logits[:1], offsets[:1], anchors, [(side, side)], clip=False)
    detections = torch.cat((found["labels"][:, None], found["scores"][:, None], found["boxes"]), dim=1)
    return {
        "conf": logits.softmax(dim=-1).numpy(),
        "largest_logit": logits.abs().amax().numpy(),
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


def _relative_bar(name: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """What float32 can hold where numbers are large."""
    if name in ("conf", "probabilities", "logits"):
        return BARS[name] * float(ours.get("largest_logit", 0)) / _LARGE_LOGIT
    largest = float(np.abs(theirs[name]).max())
    return {"boxes": BARS["boxes"] / _FAR_PX, "loc": _OFFSETS_RELATIVE}.get(name, 0.0) * largest


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
            bar = max(BARS[name], _relative_bar(name, ours, theirs))
            checks.append(Check(name, float(np.abs(ours[name] - theirs[name]).max()), bar))
    return checks


def verify_golden(
    weights: str | os.PathLike[str],
    golden: str | os.PathLike[str],
    raw_pixels: bool,
    variances: Sequence[tuple[float, ...]] = (),
) -> list[Check]:
    """A converted file against stored inputs and outputs.

    Args:
        weights: safetensors file.
        golden: .npz with `input_0`, `input_1`, ... (channels last, as the original took them) and any of `conf`, `loc`,
            `anchors`, `detections`, `probabilities`.
        raw_pixels: the original prepares its pixels itself, as ssd_keras's networks do.
        variances: the original's, by feature map, where they are not the usual: its offsets are in other units then.
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
    if variances and "loc" in stored:
        ratios = _ratios(model.config, variances)
        if stored["loc"].shape[1:] == ratios.shape:  # any other is told below
            stored["loc"] = stored["loc"] * ratios
    try:
        checks = compare(run_network(model, inputs, model.info.preparation() if raw_pixels else None), stored)
    except CheckpointError as error:
        raise CheckpointError(f"{golden}: {error}") from None
    if not checks:
        raise CheckpointError(f"{golden}: holds none of the outputs {', '.join(BARS)}")
    return checks


def _ratios(config: ModelConfig, variances: Sequence[tuple[float, ...]]) -> np.ndarray:
    """(A, 4): what takes offsets of those variances to ours, by anchor."""
    counts = [level.cells**2 * level.boxes for level in config.feature_maps]
    return np.repeat(np.array(variances) / VARIANCES, counts, axis=0)


def verify_twin(predictor: Any, source: str | os.PathLike[str]) -> list[Check]:
    """What a user will run against the Keras network that the source's own `model_config` describes.

    A seeded JPEG goes through all steps of `predictor`, a Detector or Classifier of the converted file, with the preset
    and the anchors that it holds.  The twin is given the JPEG's pixels where the network in the source prepares them
    itself, and decodes boxes by the anchors and variances that it puts out; otherwise it is given what `prepare` made.

    Raises MissingExtra without TensorFlow and CheckpointError where the source has no `model_config`.
    """
    config = predictor.config
    with open_keras(source) as file:
        if file.config is None or not has_network(file.config):
            raise CheckpointError(
                f"{Path(source)}: a weights-only file does not describe its network, so no Keras twin can be built: "
                "compare with stored outputs"
            )
        twin = build_twin(file.config, config.image_size)
        load_twin_weights(twin, file)
        takes_pixels = prepares_pixels(file.config)
    jpeg = seeded_jpeg(config.image_size)
    (batch,) = predictor.read([jpeg])
    prepared = predictor.prepare(batch)
    outputs = predictor.forward(prepared)
    (value,) = predictor.postprocess(outputs, batch.image_sizes)
    if takes_pixels:
        inputs = [np.asarray(Image.open(io.BytesIO(jpeg)), np.float32)[None]]
    else:
        inputs = [x.float().permute(0, 2, 3, 1).numpy() for x in prepared]
    answer = np.asarray(twin.predict(inputs, verbose=0))
    if config.task == "classifier":
        ours = {"probabilities": outputs[0].softmax(dim=-1).numpy(), "largest_logit": outputs[0].abs().amax().numpy()}
        return compare(ours, {"probabilities": answer})
    conf, boxes = _twins_boxes(answer, config)
    found = torch.cat((value["labels"][:, None], value["scores"][:, None], value["boxes"]), dim=1)
    ours = {
        "conf": outputs[0].softmax(dim=-1).numpy(),
        "largest_logit": outputs[0].abs().amax().numpy(),
        "boxes": (decode_boxes(outputs[1], predictor.anchors) * config.image_size).numpy(),
        "detections": found[None].numpy(),
    }
    return compare(ours, {"conf": conf, "boxes": boxes, "detections": suppressed(boxes, conf, config.image_size)})


def _twins_boxes(answer: np.ndarray, config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """(class probabilities (1, A, C + 1), boxes (1, A, 4) xmin, ymin, xmax, ymax in pixels) of what a twin gives:
    probabilities, offsets, anchors as cx, cy, w, h, and variances."""
    conf, offsets, anchors, variances = np.split(answer, np.cumsum([config.num_classes + 1, 4, 4]), axis=-1)
    if np.median(anchors[..., :2]) <= 1:  # fractions, not ssd_keras's normalize_coords=False
        anchors = anchors * config.image_size
    centre = offsets[..., :2] * variances[..., :2] * anchors[..., 2:] + anchors[..., :2]
    half = np.exp(offsets[..., 2:] * variances[..., 2:]) * anchors[..., 2:] / 2
    return conf, np.concatenate((centre - half, centre + half), axis=-1)


def seeded_jpeg(side: int) -> bytes:
    """A square JPEG of coloured patches and noise, so that every channel and many frequencies have something to say."""
    random = np.random.default_rng(_SEED)
    cells = -(-side // 20)
    coarse = random.integers(0, 256, (cells, cells, 3)).repeat(20, axis=0).repeat(20, axis=1)[:side, :side]
    pixels = np.clip(coarse + random.integers(-20, 21, coarse.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
