"""Makes `tests/keras/data/applications_*`: run by hand, with TensorFlow and both Kerases installed.

    PYTHONPATH=. python tests/keras/make_applications.py

keras-applications's VGG16 and ResNet50 as installed, at 1/16 of their width (the builders' numbers of channels are
divided while they build), with seeded weights, and what they answer to `samples.inputs`.  Kept per network: the weights
by layer and today's name, which tests write to files in every form that was published, and the answers: probabilities,
and without the top the last feature map.  ResNet50 is also answered with the batch normalisation of 2017, whose
epsilon was 1e-3.
"""

from __future__ import annotations

from unittest import mock

import numpy as np

from jpegdeep_torch.keras.twin import import_keras
from tests.keras.samples import DATA, SEED, inputs

tf_keras = import_keras()
from tf_keras.src.applications import vgg16  # noqa: E402 - `import_keras` knows what must come first

NARROW = 16


class Narrowed:
    """tf_keras.layers with fewer channels, and with another epsilon where given: for builders to build with."""

    def __init__(self, epsilon: float | None):
        self.epsilon = epsilon

    def __getattr__(self, kind: str):
        return getattr(tf_keras.layers, kind)

    def Conv2D(self, filters, *arguments, **settings):
        return tf_keras.layers.Conv2D(max(8, filters // NARROW), *arguments, **settings)

    def Dense(self, units, *arguments, **settings):
        return tf_keras.layers.Dense(10 if units == 1000 else units // NARROW, *arguments, **settings)

    def BatchNormalization(self, **settings):
        return tf_keras.layers.BatchNormalization(**settings | ({"epsilon": self.epsilon} if self.epsilon else {}))


def narrowed(name: str, epsilon: float | None):
    layers = Narrowed(epsilon)
    if name == "resnet50":
        return tf_keras.applications.ResNet50(weights=None, layers=layers)
    with mock.patch.object(vgg16, "layers", layers):
        return tf_keras.applications.VGG16(weights=None)


def seeded(model, random: np.random.RandomState) -> dict[str, np.ndarray]:
    """Sets them; float16 by layer and kind."""
    kept = {}
    for layer in model.layers:
        values = []
        for variable in layer.weights:
            kind, shape = variable.name.rpartition("/")[2].split(":")[0], tuple(variable.shape)
            if kind == "kernel":
                step = 2.0 ** np.round(np.log2(np.sqrt(2 / np.prod(shape[:-1])) / 2.5))
                if layer.name == "predictions":  # logits of some units
                    given = tf_keras.Model(model.input, layer.input).predict(inputs("vgg16"), verbose=0)
                    step = step * 2.0 ** np.round(np.log2(2 / np.sqrt(np.square(given).mean())))
                values.append(np.clip(np.round(random.normal(0, 2.5, shape)), -7, 7) * step)
            elif kind == "moving_variance":
                values.append(random.randint(1, 13, shape) / 1024)  # small: so that an epsilon matters
            elif kind == "gamma":
                values.append(random.randint(4, 13, shape) / (512 if "_3_bn" in layer.name else 256))
            else:
                values.append(random.randint(-8, 9, shape) / 32)
            kept[f"{layer.name}/{kind}"] = values[-1].astype(np.float16 if kind != "kernel" else np.float32)
        layer.set_weights([kept[f"{layer.name}/{v.name.rpartition('/')[2].split(':')[0]}"] for v in layer.weights])
    return kept


def make(name: str) -> None:
    answers = {}
    for epsilon in (None, 1e-3) if name == "resnet50" else (None,):
        model = narrowed(name, epsilon)
        if epsilon is None:
            kept = seeded(model, np.random.RandomState(SEED))
        else:
            for layer in model.layers:
                layer.set_weights(
                    [kept[f"{layer.name}/{v.name.rpartition('/')[2].split(':')[0]}"] for v in layer.weights]
                )
        key = "" if epsilon is None else "_2017"
        answers[f"probabilities{key}"] = model.predict(inputs(name), verbose=0)
        last = model.get_layer("block5_pool" if name == "vgg16" else "conv5_block3_out")
        answers[f"features{key}"] = tf_keras.Model(model.input, last.output).predict(inputs(name), verbose=0)
        print(
            name,
            epsilon,
            answers[f"probabilities{key}"].round(3),
            answers[f"features{key}"].std(),
            model.count_params(),
        )
    np.savez_compressed(DATA / f"applications_{name}.npz", **kept, **{f"answer/{k}": v for k, v in answers.items()})


if __name__ == "__main__":
    for name in ("vgg16", "resnet50"):
        make(name)
