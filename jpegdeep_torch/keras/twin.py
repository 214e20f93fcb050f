"""The Keras network that a file's own `model_config` describes, rebuilt to compare ours with: needs TensorFlow.

The configuration is read as data.  Only the layer types and settings listed here are built; a Lambda's function is
marshalled Python and is never looked at: the three that ssd_keras has are replaced, by name, with what they do.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from ..detection.anchors import STEPS_PX
from ..errors import CheckpointError, MissingExtra
from .identify import config_layers
from .reader import KerasFile

_CONV = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias")
_SETTINGS = {  # layer type -> the settings that its output depends on
    "Conv2D": _CONV,
    "Conv2DTranspose": _CONV,
    "Dense": ("units", "activation", "use_bias"),
    "BatchNormalization": ("axis", "epsilon", "center", "scale"),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": (),
    "ZeroPadding2D": ("padding",),
    "Concatenate": ("axis",),
    "Add": (),
    "Activation": ("activation",),
    "Reshape": ("target_shape",),
    "Flatten": (),
    "Dropout": ("rate",),
}
_ACTIVATIONS = (None, "linear", "relu", "softmax")
_MEAN_RGB = (123.0, 117.0, 104.0)  # what ssd_keras subtracts inside the network
_LAMBDAS = {
    "identity_layer": lambda x: x,
    "input_mean_normalization": lambda x: x - np.asarray(_MEAN_RGB, np.float32),
    "input_channel_swap": lambda x: x[..., ::-1],
}
_DECODERS = ("DecodeDetections", "DecodeDetectionsFast")  # ssd_keras's inference models end in one; compared without


def import_keras() -> ModuleType:
    """Keras 2 on TensorFlow, or the Keras that TensorFlow has; MissingExtra where neither is installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")  # PyTorch imports it late; after TensorFlow, their LLVMs clash and it crashes
    reasons = []
    for name in ("tf_keras", "tensorflow.keras"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(name)
        except Exception as error:  # a broken TensorFlow raises anything
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise MissingExtra(
        f"a comparison without stored outputs (GOLDEN.npz) needs TensorFlow with Keras ({'; '.join(reasons)}): "
        "pip install tensorflow-cpu tf_keras"
    )


def anchor_boxes(settings: dict, level: int, rows: int, columns: int) -> np.ndarray:
    """(rows, columns, boxes, 8) float32: cx, cy, w, h and the variances, as the AnchorBoxes layer of the originals
    gives them from its configuration."""
    size = min(settings["img_height"], settings["img_width"])
    scale, following = settings["this_scale"], settings["next_scale"]
    shapes = []
    for ratio in settings["aspect_ratios"]:
        shapes.append((scale * size * np.sqrt(ratio), scale * size / np.sqrt(ratio)))
        if ratio == 1 and settings.get("two_boxes_for_ar1", True):
            shapes.append((np.sqrt(scale * following) * size,) * 2)
    step = settings.get("this_steps") or STEPS_PX[level]  # ssd_keras does not write its steps to the file
    offset = settings.get("this_offsets") or 0.5
    cy, cx = ((offset + np.arange(n)) * step for n in (rows, columns))
    boxes = np.zeros((rows, columns, len(shapes), 8))
    boxes[..., 0] = cx[None, :, None] / settings["img_width"]
    boxes[..., 1] = cy[:, None, None] / settings["img_height"]
    boxes[..., 2:4] = np.array(shapes) / (settings["img_width"], settings["img_height"])
    boxes[..., 4:] = settings["variances"]
    return boxes.astype(np.float32)


def _custom_layers(keras: ModuleType) -> dict[str, type]:
    Layer: Any = keras.layers.Layer

    class L2Normalization(Layer):
        def build(self, shape):
            self.gamma = self.add_weight(name=f"{self.name}_gamma", shape=(shape[-1],), initializer="ones")
            super().build(shape)

        def call(self, x):
            import tensorflow as tf

            return tf.nn.l2_normalize(x, axis=-1) * self.gamma

    class AnchorBoxes(Layer):
        def __init__(self, settings, level, **kwargs):
            super().__init__(**kwargs)
            self.settings, self.level = settings, level

        def get_config(self):
            return {**super().get_config(), **self.settings, "name": self.name}

        def call(self, x):
            import tensorflow as tf

            boxes = anchor_boxes(self.settings, self.level, *x.shape[1:3])
            return tf.tile(tf.constant(boxes)[None], [tf.shape(x)[0], 1, 1, 1, 1])

    class Fixed(Layer):
        """A function of ours in a Lambda's place."""

        def call(self, x):
            return _LAMBDAS[self.name](x)

    return {"L2Normalization": L2Normalization, "AnchorBoxes": AnchorBoxes, "Fixed": Fixed}


def _network_of(config: dict) -> dict:
    """The configuration of the network itself; a multi-GPU model wraps it in a Lambda a device."""
    inner = [row for row in config["config"]["layers"] if row["class_name"] in ("Model", "Functional")]
    return _network_of(inner[0]) if inner else config["config"]


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, which Keras 3 insists on."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _plain(settings: dict, kind: str, name: str) -> dict:
    """The settings that matter, with nothing in them but numbers, lists of numbers and known words."""
    if settings.get("data_format", "channels_last") != "channels_last":
        raise CheckpointError(f"{name}: data_format {settings['data_format']!r}, expected 'channels_last'")
    chosen = {key: _tuples(settings[key]) for key in _SETTINGS[kind] if key in settings}
    if isinstance(chosen.get("axis"), tuple):
        (chosen["axis"],) = chosen["axis"]  # tf.keras writes a BatchNormalization's axis as a list
    if chosen.get("activation") not in _ACTIVATIONS:
        raise CheckpointError(f"{name}: activation {chosen['activation']!r}, expected one of {_ACTIVATIONS}")
    return chosen


def build_twin(config: dict, image_size: int | None = None):
    """A `model_config` -> the Keras model, with fresh weights.

    `image_size` px takes the place of input sizes that the file leaves open.  Raises MissingExtra without TensorFlow,
    and CheckpointError where the configuration has what these networks do not have.
    """
    keras = import_keras()
    custom = _custom_layers(keras)
    tensors, used, level = {}, set(), 0
    try:
        for row in _network_of(config)["layers"]:
            kind, settings = row["class_name"], row["config"]
            name = row.get("name") or settings["name"]
            if kind == "InputLayer":
                shape = [image_size if side is None else side for side in settings["batch_input_shape"][1:]]
                tensors[name] = keras.Input(shape=shape, name=name)
                continue
            sources = [node[0] for node in row["inbound_nodes"][0]]
            if kind in _DECODERS:
                tensors[name] = tensors[sources[0]]
                continue
            if kind == "Lambda" and name in _LAMBDAS:
                layer = custom["Fixed"](name=name)
            elif kind == "L2Normalization":
                layer = custom[kind](name=name)
            elif kind == "AnchorBoxes":
                layer = custom[kind](settings, level, name=name)
                level += 1
            elif kind in _SETTINGS:
                layer = getattr(keras.layers, kind)(name=name, **_plain(settings, kind, name))
            else:
                raise CheckpointError(f"{name}: a layer of type {kind}, which no network of jpeg_deep or ssd_keras has")
            given = [tensors[source] for source in sources]
            used.update(sources)
            tensors[name] = layer(given if len(given) > 1 else given[0])
        outputs = [tensor for name, tensor in tensors.items() if name not in used]
        return keras.Model([tensors[name] for name, *_ in _network_of(config)["input_layers"]], outputs[-1])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"model_config cannot be built ({type(error).__name__}: {error})") from None


def load_twin_weights(twin, file: KerasFile) -> None:
    """Copies the file's weights into the twin; CheckpointError lists what does not fit."""
    problems = []
    for layer in twin.layers:
        values = []
        for variable in layer.weights:
            kind = variable.name.rpartition("/")[2].split(":")[0]
            kind = "gamma" if kind.endswith("_gamma") else kind
            weight = file.layers.get(layer.name, {}).get(kind)
            if weight is None or weight.shape != tuple(variable.shape):
                problems.append(f"{layer.name}/{kind}: {weight.shape if weight else 'missing'} for {variable.shape}")
            else:
                values.append(file.read(weight))
        if not problems and values:
            layer.set_weights(values)
    if problems:
        raise CheckpointError(f"{file.path}: the twin's weights: " + "; ".join(problems))


def has_network(config: dict | None) -> bool:
    """Whether a `model_config` describes any layers."""
    return next(config_layers(config), None) is not None
