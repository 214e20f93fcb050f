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

import numpy as np

from ..errors import CheckpointError, MissingExtra
from ..utils.messages import listed
from .identify import config_layers, network_of
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
_LAMBDAS = {  # name -> (what it does with the value that its function closes over, that value where it is not told)
    "identity_layer": (lambda x, _: x, None),
    "input_mean_normalization": (lambda x, mean: x - np.float32(mean), (123.0, 117.0, 104.0)),
    "input_stddev_normalization": (lambda x, deviation: x / np.float32(deviation), None),
    "input_channel_swap": (lambda x, order: _in_order(x, order), (2, 1, 0)),
}
STEPS_PX = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}  # ssd_keras does not write its steps
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
    step = settings.get("this_steps", STEPS_PX[size][level])
    step = size / rows if step is None else step
    offset = settings.get("this_offsets") or 0.5
    cy, cx = ((offset + np.arange(n)) * step for n in (rows, columns))
    boxes = np.zeros((rows, columns, len(shapes), 8))
    half = np.array(shapes) / 2
    sides = np.array((settings["img_width"], settings["img_height"]) * 2, float)
    boxes[..., 0:2] = boxes[..., 2:4] = np.stack(np.broadcast_arrays(cx[None, :, None], cy[:, None, None]), axis=-1)
    boxes[..., 0:2] -= half
    boxes[..., 2:4] += half
    if settings.get("clip_boxes", settings.get("limit_boxes", False)):
        boxes[..., :4] = np.where(boxes[..., :4] >= sides, sides - 1, np.maximum(boxes[..., :4], 0))
    if settings.get("normalize_coords", True):
        boxes[..., :4] /= sides
    low, high = boxes[..., 0:2].copy(), boxes[..., 2:4].copy()
    boxes[..., 0:2], boxes[..., 2:4] = (low + high) / 2, high - low
    boxes[..., 4:] = settings["variances"]
    return boxes.astype(np.float32)


def _in_order(x, order):
    import tensorflow as tf

    return tf.gather(x, list(order), axis=-1)


def _closed_over(settings: dict) -> object:
    """The value that a Lambda's function closes over, of (code, defaults, closure); None where the file has none."""
    function = settings.get("function")
    if isinstance(function, dict):  # Keras 3's form
        function = (None, None, function["config"].get("closure"))
    closure = function[2] if isinstance(function, (list, tuple)) and len(function) == 3 else None
    return closure[0] if closure else None


def _custom_layers(keras: ModuleType) -> dict[str, type]:
    class L2Normalization(keras.layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(name=f"{self.name}_gamma", shape=(shape[-1],), initializer="ones")
            super().build(shape)

        def call(self, x):
            import tensorflow as tf

            return tf.nn.l2_normalize(x, axis=-1) * self.gamma

    class AnchorBoxes(keras.layers.Layer):
        def __init__(self, settings, level, **kwargs):
            super().__init__(**kwargs)
            self.settings, self.level = settings, level

        def get_config(self):
            return {**super().get_config(), **self.settings, "name": self.name}

        def call(self, x):
            import tensorflow as tf

            boxes = anchor_boxes(self.settings, self.level, *x.shape[1:3])
            return tf.tile(tf.constant(boxes)[None], [tf.shape(x)[0], 1, 1, 1, 1])

    class Fixed(keras.layers.Layer):
        """A function of ours in a Lambda's place."""

        def __init__(self, value, **kwargs):
            super().__init__(**kwargs)
            self.value = value

        def get_config(self):
            return {**super().get_config(), "value": self.value}

        def call(self, x):
            return _LAMBDAS[self.name][0](x, self.value)

    return {"L2Normalization": L2Normalization, "AnchorBoxes": AnchorBoxes, "Fixed": Fixed}


def _tuples(value: object) -> object:
    """JSON's lists as tuples, which Keras 3 insists on."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _sources(node: object) -> list[str]:
    """The layers that a node takes: a list of [name, ...], or Keras 3's arguments with a history in each tensor."""
    if not isinstance(node, dict):
        return [source[0] for source in node]
    found, stack = [], [node["args"]]
    while stack:
        item = stack.pop(0)
        if isinstance(item, list):
            stack = item + stack
        elif isinstance(item, dict):
            found.append(item["config"]["keras_history"][0])
    return found


def _input_names(inputs: list) -> list[str]:
    return [inputs[0]] if isinstance(inputs[0], str) else [name for name, *_ in inputs]


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
        for row in network_of(config)["config"]["layers"]:
            kind, settings = row["class_name"], row["config"]
            name = row.get("name") or settings["name"]
            if kind == "InputLayer":
                given_shape = settings["batch_input_shape" if "batch_input_shape" in settings else "batch_shape"]
                shape = [image_size if side is None else side for side in given_shape[1:]]
                tensors[name] = keras.Input(shape=shape, name=name)
                continue
            sources = _sources(row["inbound_nodes"][0])
            if kind in _DECODERS:
                tensors[name] = tensors[sources[0]]
                continue
            if kind == "Lambda" and name in _LAMBDAS:
                value = _closed_over(settings)
                layer = custom["Fixed"](_LAMBDAS[name][1] if value is None else value, name=name)
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
        return keras.Model(
            [tensors[name] for name in _input_names(network_of(config)["config"]["input_layers"])], outputs[-1]
        )
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
        raise CheckpointError(f"{file.path}: the twin's weights: " + listed(problems))


def has_network(config: dict | None) -> bool:
    """Whether a `model_config` describes any layers."""
    return next(config_layers(config), None) is not None


def prepares_pixels(config: dict | None) -> bool:
    """Whether the network takes pixels as they are, red first, and prepares them itself, as ssd_keras's do."""
    return any(kind == "Lambda" and name in _LAMBDAS for kind, name, _ in config_layers(network_of(config)))


def suppressed(boxes: np.ndarray, conf: np.ndarray, side: int) -> np.ndarray:
    """(1, K, 6) class from 1, score, xmin, ymin, xmax, ymax cut to the image: TensorFlow's combined NMS.

    boxes: (1, A, 4) xmin, ymin, xmax, ymax in pixels; conf: (1, A, C + 1), background first.
    """
    import tensorflow as tf

    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None, [1, 0, 3, 2]] / side, conf[..., 1:], max_output_size_per_class=400, max_total_size=200,
        iou_threshold=0.45, score_threshold=0.01, clip_boxes=False,
    )  # fmt: skip
    count = int(found.valid_detections[0])
    corners = np.clip(found.nmsed_boxes.numpy()[:, :count, [1, 0, 3, 2]], 0, 1) * side
    labels, scores = (x.numpy()[:, :count, None] for x in (found.nmsed_classes + 1, found.nmsed_scores))
    return np.concatenate((labels, scores, corners), axis=-1)
