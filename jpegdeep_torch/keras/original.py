"""How the Keras network in a file prepares its pixels and lays its anchors: what the file says, and what it cannot say.

What our networks do otherwise is carried out in the weights or stored beside them, or it is refused by name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ..detection.anchors import VARIANCES
from ..models import model_config
from ..models.config import PUBLISHED_RULES, BoxRules, ModelConfig
from ..models.layers import KERAS_BN_EPSILON, RESNET_BN_EPSILON
from ..utils.messages import shown
from .identify import Match, config_layers, network_of
from .names import BUBBLIIIING, KERAS_APPLICATIONS, SSD_KERAS, Slot
from .reader import KerasFile

Change = Callable[[np.ndarray], np.ndarray]  # of an array in Keras's layout

SSD_KERAS_MEAN = (123.0, 117.0, 104.0)  # red, green, blue: the default of ssd_keras's published networks
SSD_KERAS_SWAP = (2, 1, 0)
_APPLICATIONS_EPSILON = 1.001e-5  # of keras-applications's ResNet since 2019
_KERAS_1_EPSILON = 1e-3  # of the ResNet50 that the files with Keras 1's names are of


@dataclass(frozen=True)
class Settings:
    """What a caller says of the original where the file does not say it, or says it wrong; None: as the file says.

    mean, deviation: of ssd_keras's `subtract_mean` and `divide_by_stddev`, red first.
    swap: of `swap_channels`: the original's channels, each by its place in red, green, blue.
    steps, clip: one of models.config.ANCHOR_STEPS and ANCHOR_CLIPS.
    variances: four positive numbers.
    epsilon: of all batch normalisations.
    """

    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    swap: tuple[int, ...] | None = None
    steps: str | None = None
    clip: str | None = None
    variances: tuple[float, ...] | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Assumption:
    """What a file of this kind cannot say.

    argument: of `convert_keras`, or a field of its Settings, that says it; None where nothing can.
    """

    text: str
    argument: str | None = None

    def __str__(self) -> str:
        return self.text + (f" ({self.argument} says another)" if self.argument else "")


@dataclass
class Original:
    """`mean_rgb`, `deviation` and `swap` are of the layers in front of the first convolution, where there are any."""

    mean_rgb: tuple[float, float, float] | None = None
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    swap: tuple[int, ...] | None = None
    scales: tuple[float, ...] | None = None
    box_rules: BoxRules = PUBLISHED_RULES
    variances: list[tuple[float, ...]] = field(default_factory=list)  # by feature map; empty: the usual
    epsilons: dict[str, float] = field(default_factory=dict)  # by layer, where known
    epsilon: float | None = None  # of all others
    our_epsilon: float = RESNET_BN_EPSILON
    assumed: list[Assumption] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def change(self, slot: Slot, layer: str, channels: str) -> Change | None:
        """What to do to the weights of `slot`, from the file's `layer`, so that our network answers as the original.

        channels: 'bgr' or 'rgb', the order that our network will be given.
        """
        if slot.weight == "kernel" and slot.key.endswith("block1_conv1.weight") and self.swap is not None:
            places = [self.swap.index("rgb".index(c)) for c in channels]
            scale = np.array([1 / self.deviation["rgb".index(c)] for c in channels])
            if places != [0, 1, 2] or (scale != 1).any():
                return functools.partial(_refold, places=places, scale=scale)
        if slot.key.startswith("box_heads.") and self.variances:
            ratio = np.array(self.variances[int(slot.key.split(".")[1])]) / VARIANCES
            if not np.allclose(ratio, 1, rtol=0, atol=1e-6):
                return functools.partial(_scale_offsets, ratio=ratio)
        if slot.weight == "moving_variance":
            theirs = self.epsilons.get(layer, self.epsilon)
            if theirs is not None and abs(theirs - self.our_epsilon) > 1e-9:
                return functools.partial(_shift, by=theirs - self.our_epsilon)
        return None


def _refold(kernel: np.ndarray, places: list[int], scale: np.ndarray) -> np.ndarray:
    return kernel[:, :, places] * scale[:, None]


def _scale_offsets(value: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    return value * np.tile(ratio, value.shape[-1] // 4)


def _shift(value: np.ndarray, by: float) -> np.ndarray:
    return value.astype(np.float64) + by


def read_original(file: KerasFile, found: Match, settings: Settings) -> Original:
    """What `file` says of the network that it was found to hold; `settings` take the place of it."""
    row = model_config(found.model)
    original = Original(our_epsilon=RESNET_BN_EPSILON if row.family == "resnet50" else KERAS_BN_EPSILON)
    layers = list(config_layers(network_of(file.config))) if file.config else []
    if found.flavour == SSD_KERAS:
        _read_pixels(original, file, layers, settings)
    elif settings.mean is not None or settings.deviation is not None or settings.swap is not None:
        original.problems.append("mean, deviation and swap are of ssd_keras's networks, which prepare their pixels")
    if row.task == "detector":
        _read_anchors(original, row, found, layers, settings)
    _read_epsilons(original, file, found, layers, settings)
    return original


def numbers(value: object, count: int, positive: bool = False) -> tuple[float, ...] | None:
    """`value` as so many finite numbers (one stands for all), or None."""
    try:
        values = tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(value),) * count
    except (TypeError, ValueError, OverflowError):
        return None
    fine = len(values) == count and all(math.isfinite(v) and (v > 0 or not positive) for v in values)
    return values if fine else None


# Pixels -----------------------------------------------------------------------------------------------------------


def _closure(settings: dict) -> object:
    """The value that a Lambda's function closes over: (code, defaults, closure); the code is never looked at."""
    function = settings.get("function")
    if isinstance(function, dict) and isinstance(function.get("config"), dict):  # Keras 3's form
        function = [None, None, function["config"].get("closure")]
    closure = function[2] if isinstance(function, list) and len(function) == 3 else None
    return closure[0] if isinstance(closure, list) and len(closure) == 1 else None


def _read_pixels(original: Original, file: KerasFile, layers: list, settings: Settings) -> None:
    lambdas = {name: values for kind, name, values in layers if kind == "Lambda"}
    known = {"identity_layer", "input_mean_normalization", "input_stddev_normalization", "input_channel_swap"}
    original.problems += [
        f"{shown(name)}: a function of its own, which no file says" for name in lambdas if name not in known
    ]
    names = set(lambdas) if layers else set(file.layer_names)
    if not layers and not complete(file.layer_names):
        names = known - {"input_stddev_normalization"}
        original.assumed.append(Assumption("ssd_keras's input layers as published: the file does not list them"))

    def value(layer: str, option: str, argument: str, default: object, absent: object, check: Callable) -> object:
        given = getattr(settings, argument)
        if given is not None:
            stated = given
        elif layer not in names:
            return absent
        else:
            stated = _closure(lambdas.get(layer, {}))
        if stated is None and default is None:
            original.problems.append(f"{layer}: {option} by values that the file does not say: {argument} says them")
            return absent
        if stated is None:
            told = ", ".join(f"{v:g}" for v in default)
            original.assumed.append(Assumption(f"{option} {told}: the file does not say", argument))
            return default
        checked = check(stated)
        if checked is None:
            original.problems.append(f"{layer}: {option} {shown(stated)}, which no network of ours can have")
            return absent
        return checked

    original.mean_rgb = value(
        "input_mean_normalization", "subtract_mean", "mean", SSD_KERAS_MEAN, (0.0,) * 3,
        lambda v: numbers(v, 3),
    )  # fmt: skip
    original.deviation = value(
        "input_stddev_normalization", "divide_by_stddev", "deviation", None, (1.0,) * 3,
        lambda v: numbers(v, 3, positive=True),
    )  # fmt: skip
    original.swap = value(
        "input_channel_swap", "swap_channels", "swap", SSD_KERAS_SWAP, (0, 1, 2),
        lambda v: tuple(v) if isinstance(v, (list, tuple)) and sorted(map(str, v)) == ["0", "1", "2"] else None,
    )  # fmt: skip


def complete(layer_names: Iterable[str]) -> bool:
    """Whether a list of layers has those without weights too; a multi-GPU model's has not."""
    return any(name.endswith(("_reshape", "_flat", "_padding", "_priorbox", "pool1")) for name in layer_names)


# Anchors ----------------------------------------------------------------------------------------------------------


def _read_anchors(original: Original, row: ModelConfig, found: Match, layers: list, settings: Settings) -> None:
    stated = [(name, values) for kind, name, values in layers if kind == "AnchorBoxes"]
    if found.flavour == BUBBLIIIING:
        steps, clip = "even", "image"
    else:
        steps, clip = "published", "none"
    problems, maps = original.problems, row.feature_maps
    if stated and len(stated) != len(maps):
        problems.append(f"model_config: {len(stated)} AnchorBoxes layers, expected {len(maps)}")
        stated = []
    if stated:
        steps = _stated_steps(row, stated, problems) or steps
        clips = {bool(values.get("clip_boxes", values.get("limit_boxes", False))) for _, values in stated}
        if len(clips) > 1:
            problems.append("clip_boxes: on in some of the AnchorBoxes layers only")
        clip = "corners" if clips == {True} else "none"
        for (name, values), level in zip(stated, maps):
            _check_anchor_layer(problems, name, values, row.image_size, level.aspect_ratios)
            variances = numbers(values.get("variances", VARIANCES), 4, positive=True)
            if variances is None:
                problems.append(f"{shown(name)}: variances {shown(values.get('variances'))}, expected 4 above 0")
            original.variances.append(variances or VARIANCES)
        scales = [values.get("this_scale") for _, values in stated] + [stated[-1][1].get("next_scale")]
        original.scales = numbers(scales, len(maps) + 1, positive=True)
        if original.scales is None:
            problems.append(f"model_config: anchor scales {shown(scales)}, expected {len(maps) + 1} numbers above 0")
        for place, known in enumerate(row.known_scales.values()):  # floats that went through float32 and JSON
            if original.scales and np.allclose(original.scales, known, rtol=0, atol=1e-6):
                original.scales = tuple(row.known_scales.values())[place]
    elif found.flavour != BUBBLIIIING:
        if settings.clip is None:
            original.assumed.append(Assumption("anchors are not clipped", "clip"))
        if settings.variances is None:
            told = ", ".join(f"{v:g}" for v in VARIANCES)
            original.assumed.append(Assumption(f"variances {told}", "variances"))
        original.assumed.append(
            Assumption(
                f"images of {row.image_size} px, the published aspect ratios, coords 'centroids': a file of model.save "
                "says these"
            )
        )
    if (
        settings.steps is None
        and not any("this_steps" in values for _, values in stated)
        and (found.flavour != BUBBLIIIING)
    ):
        told = ", ".join(str(level.step_px) for level in maps)
        original.assumed.append(
            Assumption(f"anchor steps {told} px and offsets 0.5; ssd_keras's steps=None is 'even'", "steps")
        )
    if settings.variances is not None:
        original.variances = [tuple(settings.variances)] * len(maps)
    original.box_rules = BoxRules(settings.steps or steps, settings.clip or clip)


def _stated_steps(row: ModelConfig, stated: list, problems: list[str]) -> str | None:
    if not all("this_steps" in values for _, values in stated):
        return None
    given = [values["this_steps"] for _, values in stated]
    if all(step is None for step in given):
        return "even"
    for kind, expected in (
        ("published", [level.step_px for level in row.feature_maps]),
        ("even", [row.image_size / level.cells for level in row.feature_maps]),
    ):
        if all(numbers(a, 2) and np.allclose(numbers(a, 2), b, rtol=1e-6) for a, b in zip(given, expected)):
            return kind
    for (name, values), level in zip(stated, row.feature_maps):
        got = numbers(values["this_steps"], 2)
        if not got or not np.allclose(got, level.step_px, rtol=1e-6):
            problems.append(f"{shown(name)}: this_steps {shown(values['this_steps'])}, expected {level.step_px}")
    return None


def _check_anchor_layer(
    problems: list[str], name: str, values: dict, side: int, aspect_ratios: tuple[float, ...]
) -> None:
    ratios = (1.0, *(r for a in aspect_ratios for r in (a, 1 / a)))
    for key, count, expected in (
        ("img_height", 1, (side,)),
        ("img_width", 1, (side,)),
        ("aspect_ratios", len(ratios), ratios),
        ("this_offsets", 2, (0.5, 0.5)),
    ):
        got = values.get(key)
        if got is None:
            continue
        found = numbers(got, count)
        if found is None or not np.allclose(found, expected, rtol=1e-6):
            told = expected[0] if count < 3 else list(expected)
            problems.append(f"{shown(name)}: {key} {shown(got)}, expected {told}")
    for key, expected in (("two_boxes_for_ar1", True), ("coords", "centroids")):
        if values.get(key, expected) != expected:
            problems.append(f"{shown(name)}: {key} {shown(values[key])}, expected {expected}")


# Batch normalisation ----------------------------------------------------------------------------------------------


def _read_epsilons(original: Original, file: KerasFile, found: Match, layers: list, settings: Settings) -> None:
    if settings.epsilon is not None:
        original.epsilon = settings.epsilon
        return
    for kind, name, values in layers:
        if kind == "BatchNormalization" and values.get("epsilon") is not None:
            epsilon = numbers(values["epsilon"], 1, positive=True)
            if epsilon is None or epsilon[0] > 1:
                original.problems.append(f"{shown(name)}: epsilon {shown(values['epsilon'])}, expected one in (0, 1]")
            else:
                original.epsilons[name] = epsilon[0]
    if layers or not any(slot.weight == "moving_variance" for slot, _ in found.found.values()):
        return
    if found.flavour == KERAS_APPLICATIONS:
        original.epsilon = _APPLICATIONS_EPSILON
        told = f"batch normalisation's epsilon {_APPLICATIONS_EPSILON:g}, by its names"
        original.assumed.append(Assumption(told, "epsilon"))
    elif file.keras_1_names:
        original.epsilon = _KERAS_1_EPSILON
        told = f"batch normalisation's epsilon {_KERAS_1_EPSILON:g}, by Keras 1's names"
        original.assumed.append(Assumption(told, "epsilon"))
    elif found.model == "resnet50":
        told = (
            f"batch normalisation's epsilon {RESNET_BN_EPSILON:g}, jpeg_deep's; keras-applications had 0.001 under "
            "these names"
        )
        original.assumed.append(Assumption(told, "epsilon"))
