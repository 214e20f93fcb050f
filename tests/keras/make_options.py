"""Makes `tests/keras/data/ssd_keras_options.npz`: run by hand, with TensorFlow installed.

    PYTHONPATH=. python tests/keras/make_options.py

ssd_keras's SSD300 at 1/32 of its width with 3 classes and the weights of `ssd_keras_ssd300.h5.xz`, with one option of
its builder changed at a time.  Kept per option: what Keras writes of the network (`model_config`, with Lambda layers of
true closures, and the list of layers), and what it answers to `samples.inputs`: probabilities and boxes of some
anchors, decoded here from the network's offsets by the formulas for each kind of coordinates, and the detections after
TensorFlow's combined NMS.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import h5py
import numpy as np

from jpegdeep_torch.keras.twin import import_keras
from tests.keras.options import BASE, BUBBLIIIING, OPTIONS
from tests.keras.samples import DATA, WIDTH, inputs, rows, unpack
from tests.keras.tables import BOXES, STEPS, network

tf_keras = import_keras()
import tensorflow as tf  # noqa: E402 - `import_keras` knows what must come first

SIDE = 300


class L2Normalization(tf_keras.layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(name=f"{self.name}_gamma", shape=(shape[-1],))
        super().build(shape)

    def call(self, x):
        return tf.nn.l2_normalize(x, axis=-1) * self.gamma


class AnchorBoxes(tf_keras.layers.Layer):
    """Writes the settings that ssd_keras's layer writes to its files: neither steps nor offsets."""

    def __init__(self, settings, **kwargs):
        super().__init__(**kwargs)
        self.settings = settings

    def get_config(self):
        return {**super().get_config(), **self.settings}

    def call(self, x):  # of the true layer's shape; the anchors themselves are computed below
        rows, columns, channels = x.shape[1:]
        return tf.reshape(tf.zeros_like(tf.concat((x, x), axis=-1)), (-1, rows, columns, channels // 4, 8))


def anchors(cells: int, step: float | None, settings: dict) -> np.ndarray:
    """(cells * cells * boxes, 4) corners in pixels."""
    step = step or SIDE / cells
    s, after = settings["this_scale"] * SIDE, np.sqrt(settings["this_scale"] * settings["next_scale"]) * SIDE
    sizes = [(s, s), (after, after)] + [(s * np.sqrt(a), s / np.sqrt(a)) for a in settings["aspect_ratios"] if a != 1]
    made = []
    for row in range(cells):
        for column in range(cells):
            for w, h in sizes:
                x, y = (column + 0.5) * step, (row + 0.5) * step
                made.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    made = np.array(made)
    if settings.get("bubbliiiing"):
        return made.clip(0, SIDE)
    if settings["clip_boxes"]:
        made[made >= SIDE] = SIDE - 1
        made[made < 0] = 0
    return made


def decoded(offsets: np.ndarray, corners: np.ndarray, settings: dict) -> np.ndarray:
    """Offsets (A, 4) against anchors (A, 4) -> corners in pixels, as ssd_keras's DecodeDetections for its coords."""
    unit = SIDE if settings["normalize_coords"] else 1
    boxes, moved = corners / unit, offsets * np.array(settings["variances"])
    size = boxes[:, 2:] - boxes[:, :2]
    if settings["coords"] == "centroids":
        centre = moved[:, :2] * size + (boxes[:, 2:] + boxes[:, :2]) / 2
        half = np.exp(moved[:, 2:]) * size / 2
        return np.concatenate((centre - half, centre + half), axis=1) * unit
    if settings["coords"] == "minmax":  # xmin, xmax, ymin, ymax
        moved = moved[:, [0, 2, 1, 3]]
    return (boxes + moved * np.tile(size, 2)) * unit


def build(option: dict):
    mean, deviation, swap = option["subtract_mean"], option["divide_by_stddev"], option["swap_channels"]

    def input_mean_normalization(tensor):
        return tensor - np.array(mean)

    def input_stddev_normalization(tensor):
        return tensor / np.array(deviation)

    def input_channel_swap(tensor):
        return tf.stack([tensor[..., swap[0]], tensor[..., swap[1]], tensor[..., swap[2]]], axis=-1)

    def identity_layer(tensor):
        return tensor

    functions = {"identity_layer": identity_layer}
    functions |= {"input_mean_normalization": input_mean_normalization} if mean is not None else {}
    functions |= {"input_stddev_normalization": input_stddev_normalization} if deviation is not None else {}
    functions |= {"input_channel_swap": input_channel_swap} if swap else {}
    x = given = tf_keras.Input((SIDE, SIDE, 3), name="input_1")
    for name, function in functions.items():
        x = tf_keras.layers.Lambda(function, name=name)(x)
    tensors, level, settings = {"input_channel_swap": x}, 0, []
    for layer in network("ssd_keras_ssd300", WIDTH, 3).layers:
        if layer.kind in ("InputLayer", "Lambda"):
            continue
        before = [tensors[name] for name in layer.inputs]
        if layer.kind == "L2Normalization":
            made = L2Normalization(name=layer.name)
        elif layer.kind == "AnchorBoxes":
            count = len(option["ratios"][BOXES[level]])
            assert count + 1 == BOXES[level]
            settings.append({
                "img_height": SIDE, "img_width": SIDE, "this_scale": option["scales"][level],
                "next_scale": option["scales"][level + 1], "aspect_ratios": list(option["ratios"][BOXES[level]]),
                "two_boxes_for_ar1": True, "clip_boxes": option["clip_boxes"], "variances": option["variances"],
                "coords": option["coords"], "normalize_coords": option["normalize_coords"],
            })  # fmt: skip
            made = AnchorBoxes(settings[-1], name=layer.name)
            level += 1
        else:
            made = getattr(tf_keras.layers, layer.kind)(name=layer.name, **layer.settings)
        tensors[layer.name] = made(before if len(before) > 1 else before[0])
    return tf_keras.Model(given, tensors["predictions"]), settings


def make(name: str, folder: Path) -> dict[str, np.ndarray]:
    option = BASE | (OPTIONS | {"bubbliiiing": BUBBLIIIING})[name]
    model, settings = build(option)
    weights = unpack("ssd_keras_ssd300", folder)
    model.load_weights(weights, by_name=True)
    model.save(folder / "whole.h5", save_format="h5")
    (pixels,) = inputs("ssd_keras_ssd300")
    if "bubbliiiing" in option:  # keras-applications's preparation, outside the network
        pixels = pixels[..., ::-1] - np.float32([103.939, 116.779, 123.68])
        settings = [values | {"bubbliiiing": True} for values in settings]
    answer = model.predict(pixels, verbose=0)[0]
    conf, offsets = answer[:, :4], answer[:, 4:8]
    steps = STEPS if option["steps"] else [None] * 6
    parts = [anchors(c, s, values) for c, s, values in zip((38, 19, 10, 5, 3, 1), steps, settings)]
    boxes = decoded(offsets, np.concatenate(parts), settings[0]).astype(np.float32)
    found = tf.image.combined_non_max_suppression(
        boxes[None, :, None, [1, 0, 3, 2]] / SIDE, conf[None, :, 1:], max_output_size_per_class=400, max_total_size=200,
        iou_threshold=0.45, score_threshold=0.01, clip_boxes=False,
    )  # fmt: skip
    corners = found.nmsed_boxes.numpy()[:, :, [1, 0, 3, 2]] * SIDE
    columns = (found.nmsed_classes.numpy()[..., None] + 1, found.nmsed_scores.numpy()[..., None], corners)
    detections = np.concatenate(columns, axis=-1)[0, : int(found.valid_detections[0])]
    with h5py.File(folder / "whole.h5") as file:
        config = file.attrs["model_config"]
        names = [str(n) for n in file["model_weights"].attrs["layer_names"]]
    json.loads(config)
    print(name, detections.shape, conf[:, 1:].max())
    return {
        "conf": conf[rows()[::2]], "boxes": boxes[rows()[::2]], "detections": detections.astype(np.float32),
        "config": np.array(config), "names": np.array(names),
    }  # fmt: skip


if __name__ == "__main__":
    kept = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (*OPTIONS, "bubbliiiing"):
            kept |= {f"{name}/{key}": value for key, value in make(name, Path(folder)).items()}
    np.savez_compressed(DATA / "ssd_keras_options.npz", **kept)
