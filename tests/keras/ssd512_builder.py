"""ssd_keras's SSD512 as its builder puts it together, written anew from what it publishes; and parity with it.

    PYTHONPATH=. python tests/keras/ssd512_builder.py [FOLDER | --small]

Needs TensorFlow with Keras 2 (`tf_keras`).  It shares nothing with `tables.py` and `jpegdeep_torch.keras.twin`: layers
stand here one after the other, anchors are laid by an own layer, which writes the settings that ssd_keras's writes.
Two checks run: the small network of `data/ssd_keras_ssd512.h5.xz` answers as is stored beside it (and what
`model.save` writes of it is kept in `data`), and a network of full width with seeded weights, saved by `model.save` and
by `save_weights` to FOLDER, converts and answers as Keras does.
"""

from __future__ import annotations

import json
import lzma
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.twin import import_keras
from jpegdeep_torch.keras.verify import run_network
from jpegdeep_torch.weights import load_model
from tests.keras.samples import DATA, WIDTH, inputs, rows_512, unpack

tf_keras = import_keras()
import tensorflow as tf  # noqa: E402 - `import_keras` knows what must come first

SIDE, SEED = 512, 20180404
SCALES = (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05)  # of Pascal VOC
STEPS = (8, 16, 32, 64, 128, 256, 512)
FEW, MANY = (1.0, 2.0, 0.5), (1.0, 2.0, 0.5, 3.0, 1 / 3)
RATIOS = (FEW, MANY, MANY, MANY, MANY, FEW, FEW)
L = tf_keras.layers


class Norm(L.Layer):
    """Each position to length 1, times a weight for each channel."""

    def build(self, shape):
        self.gamma = self.add_weight(name=f"{self.name}_gamma", shape=shape[-1:], initializer="ones")

    def call(self, x):
        return tf.math.l2_normalize(x, axis=3) * self.gamma


class AnchorBoxes(L.Layer):
    def __init__(self, level: int, **options):
        super().__init__(**options)
        self.level = level

    def call(self, x):
        rows, columns = x.shape[1:3]
        small, step = SCALES[self.level], STEPS[self.level]
        sizes = []
        for ratio in RATIOS[self.level]:
            sizes.append((SIDE * small * ratio**0.5, SIDE * small / ratio**0.5))
            if ratio == 1:
                sizes.append(((small * SCALES[self.level + 1]) ** 0.5 * SIDE,) * 2)
        across, down = np.meshgrid(*(np.linspace(step / 2, (n - 0.5) * step, n) for n in (columns, rows)))
        made = np.zeros((rows, columns, len(sizes), 8))
        made[..., 0], made[..., 1] = across[..., None], down[..., None]
        made[..., 2:4] = sizes
        made[..., :4] /= SIDE
        made[..., 4:] = (0.1, 0.1, 0.2, 0.2)
        return tf.repeat(tf.constant(made[None], tf.float32), tf.shape(x)[0], axis=0)

    def get_config(self):
        return {
            **super().get_config(), "img_height": SIDE, "img_width": SIDE, "this_scale": SCALES[self.level],
            "next_scale": SCALES[self.level + 1], "aspect_ratios": list(RATIOS[self.level]),
            "two_boxes_for_ar1": True, "clip_boxes": False, "variances": [0.1, 0.1, 0.2, 0.2],
            "coords": "centroids", "normalize_coords": True,
        }  # fmt: skip


def build(width: float, classes: int):
    """The network in training mode: (1, 24564, classes + 1 + 12)."""

    def conv(x, name, filters, size=3, **options):
        filters = max(8, round(filters * width / 8) * 8)
        options = {"padding": "same", "activation": "relu"} | options
        return L.Conv2D(filters, size, name=name, **options)(x)

    mean, swap = [123, 117, 104], [2, 1, 0]
    x = image = L.Input((SIDE, SIDE, 3))
    x = L.Lambda(lambda t: t, name="identity_layer")(x)
    x = L.Lambda(lambda t: t - np.array(mean), name="input_mean_normalization")(x)
    x = L.Lambda(lambda t: tf.stack([t[..., swap[i]] for i in range(3)], axis=-1), name="input_channel_swap")(x)
    maps = {}
    for block, filters, count in ((1, 64, 2), (2, 128, 2), (3, 256, 3), (4, 512, 3), (5, 512, 3)):
        for i in range(1, count + 1):
            x = conv(x, f"conv{block}_{i}", filters)
        if block == 4:
            maps["conv4_3_norm"] = Norm(name="conv4_3_norm")(x)
        pool = {"pool_size": 2, "strides": 2} if block < 5 else {"pool_size": 3, "strides": 1}
        x = L.MaxPooling2D(padding="same", name=f"pool{block}", **pool)(x)
    x = conv(x, "fc6", 1024, dilation_rate=6)
    maps["fc7"] = x = conv(x, "fc7", 1024, 1)
    for i, squeeze, filters in ((6, 256, 512), (7, 128, 256), (8, 128, 256), (9, 128, 256), (10, 128, 256)):
        x = L.ZeroPadding2D(1, name=f"conv{i}_padding")(conv(x, f"conv{i}_1", squeeze, 1))
        last = {"size": 4} if i == 10 else {"strides": 2}
        maps[f"conv{i}_2"] = x = conv(x, f"conv{i}_2", filters, padding="valid", **last)
    conf, loc, prior = [], [], []
    for level, (name, x) in enumerate(maps.items()):
        boxes = len(RATIOS[level]) + 1
        head = L.Conv2D(boxes * (classes + 1), 3, padding="same", name=f"{name}_mbox_conf")(x)
        conf.append(L.Reshape((-1, classes + 1), name=f"{name}_mbox_conf_reshape")(head))
        head = L.Conv2D(boxes * 4, 3, padding="same", name=f"{name}_mbox_loc")(x)
        loc.append(L.Reshape((-1, 4), name=f"{name}_mbox_loc_reshape")(head))
        anchors = AnchorBoxes(level, name=f"{name}_mbox_priorbox")(head)
        prior.append(L.Reshape((-1, 8), name=f"{name}_mbox_priorbox_reshape")(anchors))
    scores = L.Activation("softmax", name="mbox_conf_softmax")(L.Concatenate(axis=1, name="mbox_conf")(conf))
    parts = [scores, L.Concatenate(axis=1, name="mbox_loc")(loc), L.Concatenate(axis=1, name="mbox_priorbox")(prior)]
    return tf_keras.Model(image, L.Concatenate(axis=2, name="predictions")(parts))


def answers(model, classes: int) -> dict[str, np.ndarray]:
    answer = model.predict(inputs("ssd_keras_ssd512"), verbose=0)
    conf, loc, anchors, _ = np.split(answer, np.cumsum([classes + 1, 4, 4]), axis=-1)
    return {"conf": conf, "loc": loc, "anchors": anchors[0]}


def check_stored(folder: Path) -> None:
    model = build(WIDTH, 3)
    model.save(folder / "small.h5")
    with h5py.File(folder / "small.h5") as file:  # what a whole model's file says besides the weights
        kept = {
            "config": file.attrs["model_config"],
            "names": list(map(str, file["model_weights"].attrs["layer_names"])),
        }
        (DATA / "ssd_keras_ssd512_whole.json.xz").write_bytes(lzma.compress(json.dumps(kept).encode()))
    model.load_weights(unpack("ssd_keras_ssd512", folder), by_name=True)
    with np.load(DATA / "ssd_keras_ssd512.npz") as stored:
        for name, value in answers(model, 3).items():
            value = value[rows_512()] if name == "anchors" else value[:, rows_512()]
            off = np.abs(value - stored[name]).max()
            print(f"stored {name}: largest difference {off:.1e}")
            assert off < (1e-6 if name == "anchors" else 1e-5)


def seed(model) -> None:
    """He's scale, biases that matter; heads that answer in units."""
    random = np.random.RandomState(SEED)
    for layer in model.layers:
        values = []
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if len(shape) == 4:
                values.append(random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape))
            else:
                values.append(
                    random.uniform(15, 25, shape) if "gamma" in variable.name else random.normal(0, 0.1, shape)
                )
        if "_mbox_" in layer.name and values:
            given = tf_keras.Model(model.input, layer.input).predict(inputs("ssd_keras_ssd512"), verbose=0)
            values[0] /= np.sqrt(np.square(given).mean())
        layer.set_weights(values)


def check_full_width(folder: Path) -> None:
    model = build(1, 20)
    seed(model)
    theirs = answers(model, 20)
    for path, save in ((folder / "whole.h5", model.save), (folder / "weights.h5", model.save_weights)):
        save(path)
        done = convert_keras(path)
        assert (done.info.model, done.info.width, done.info.num_classes) == ("ssd512_vgg16", 1, 20)
        ours = run_network(load_model(done.output), inputs("ssd_keras_ssd512"), done.info.preparation())
        for name, bar in (("conf", 1e-4), ("loc", 1e-3), ("anchors", 1e-6)):
            off = np.abs(ours[name] - theirs[name]).max()
            print(f"{path.name} {name}: largest difference {off:.1e}, of values up to {np.abs(theirs[name]).max():.3g}")
            assert off < bar, name
        path.unlink()
        done.output.unlink()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(
        dir=sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] != "--small" else None
    ) as made:
        check_stored(Path(made))
        if "--small" not in sys.argv:
            check_full_width(Path(made))
