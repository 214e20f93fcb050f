"""Makes the small Keras checkpoints and outputs in `tests/keras/data`: run by hand, with TensorFlow installed.

    PYTHONPATH=. python tests/keras/make_data.py [NAME ...]

Every network of `tables.py` at 1/32 of its width with 3 classes (a classifier: 10), seeded weights of few levels so
that the files stay small, written by Keras itself (most by `save_weights`, some by `model.save`, one of them trained a
step so that it has optimizer state), and what Keras answers to `samples.inputs`.
"""

from __future__ import annotations

import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np

from jpegdeep_torch.keras.twin import build_twin, import_keras
from tests.keras.samples import DATA, SEED, WHOLE, WIDTH, inputs, model_config, rows, rows_512
from tests.keras.tables import NETWORKS, SSD512, network

tf_keras = import_keras()
import tensorflow as tf  # noqa: E402 - `import_keras` knows what must come first


def seeded_weights(model: tf_keras.Model, samples: list[np.ndarray], random: np.random.RandomState) -> None:
    """Kernels of 15 levels at He's scale, norms that change something, small biases; heads answer in units, not
    hundreds."""
    for layer in model.layers:
        size = 1.0
        if layer.weights and (layer.name in ("predictions", "fc1000") or "_mbox_" in layer.name):
            given = tf_keras.Model(model.inputs, layer.input).predict(samples, verbose=0)
            size = float(np.sqrt(np.square(given).mean()))
        values = []
        for variable in layer.weights:
            kind, shape = variable.name.rpartition("/")[2].split(":")[0], tuple(variable.shape)
            if kind == "kernel":
                step = 2.0 ** np.round(np.log2(np.sqrt(2 / np.prod(shape[:-1])) / 2.5 / size))
                values.append(np.clip(np.round(random.normal(0, 2.5, shape)), -7, 7) * step)
            elif kind.endswith("_gamma"):
                values.append(np.full(shape, 20.0) + random.randint(-4, 5, shape))
            elif kind in ("gamma", "moving_variance"):
                values.append(random.randint(4, 13, shape) / 8)
            else:
                values.append(random.randint(-8, 9, shape) / 32)
        layer.set_weights([v.astype(np.float32) for v in values])


def detections(conf: np.ndarray, loc: np.ndarray, anchors: np.ndarray, side: int) -> np.ndarray:
    """(1, 200, 6) class from 1, score, xmin, ymin, xmax, ymax in pixels: TensorFlow's combined NMS."""
    cx, cy = (loc[..., i] * 0.1 * anchors[:, 2 + i] + anchors[:, i] for i in (0, 1))
    w, h = (np.exp(loc[..., i] * 0.2) * anchors[:, i] for i in (2, 3))
    boxes = np.stack((cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2), axis=-1)
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None], conf[..., 1:], max_output_size_per_class=400, max_total_size=200, iou_threshold=0.45,
        score_threshold=0.01, clip_boxes=False,
    )  # fmt: skip
    count = int(found.valid_detections[0])
    corners = found.nmsed_boxes.numpy()[:, :, [1, 0, 3, 2]] * side
    parts = (found.nmsed_classes.numpy()[..., None] + 1, found.nmsed_scores.numpy()[..., None], corners)
    return np.concatenate(parts, axis=-1)[:, :count].astype(np.float32)


def make(name: str, folder: Path) -> None:
    """`data/NAME.h5.xz` and `data/NAME.npz`."""
    random = np.random.RandomState(SEED + (*NETWORKS, SSD512).index(name))
    net = network(name, WIDTH, classes=3 if name.startswith("ssd") else 10)
    model = build_twin(model_config(net))
    seeded_weights(model, inputs(name), random)
    if name == "ssd300_vgg16_dct_y":
        model.compile(optimizer=tf_keras.optimizers.legacy.SGD(0.0, momentum=0.9), loss="mse")
        model.train_on_batch(inputs(name), model.predict(inputs(name), verbose=0) * 0.9)
    path = folder / f"{name}.h5"
    if name in WHOLE:
        model.save(path, save_format="h5")
    else:
        model.save_weights(path)
    answer = model.predict(inputs(name), verbose=0)
    if name.startswith("ssd"):
        conf, loc, anchors = answer[..., :4], answer[..., 4:8], answer[0, :, 8:12]
        at = rows_512() if name == SSD512 else rows()
        kept = {"conf": conf[:, at], "loc": loc[:, at], "anchors": anchors[at]}
        kept["detections"] = detections(conf, loc, anchors, 512 if name == SSD512 else 300)
        print(
            name,
            "best scores",
            conf[0, :, 1:].max(axis=0),
            "largest offset",
            np.abs(loc).max(),
            kept["detections"].shape,
        )
    else:
        kept = {"probabilities": answer}
        print(name, answer.round(3))
    np.savez_compressed(DATA / f"{name}.npz", **kept)
    (DATA / f"{name}.h5.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or (*NETWORKS, SSD512):
            make(name, Path(folder))
