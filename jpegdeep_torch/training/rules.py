"""What each key of a configuration allows, but not the keys together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..models import MODELS
from ..presets import PRESETS

Rule = Callable[..., str]


def contradictions(valid: Mapping[str, Any]) -> list[str]:
    """What does not go together of values that are as they should be, each under its key's whole name.

    A rule whose keys are not all there is left out: what is wrong with those keys has been said.
    """
    found = [rule(*(valid[key] for key in keys)) for keys, rule in _RULES if all(key in valid for key in keys)]
    return [line for line in found if line]


def _coefficients(name: str, coefficients: str) -> str:
    if MODELS[name].is_dct or coefficients == "pixels":
        return ""
    return f"data.coefficients: {coefficients!r}, expected 'pixels' for {name}, which reads RGB"


def _library(coefficients: str, pixels: str) -> str:
    if coefficients != "native" or pixels == "opencv":
        return ""
    return f"augmentation.pixels: {pixels!r} changes no coefficients, expected 'opencv' for data.coefficients 'native'"


def _kind(name: str, kind: str) -> str:
    if (MODELS[name].task == "classifier") == (kind == "imagenet"):
        return ""
    return f"data.kind: {kind!r} does not fit model.name {name!r}, a {MODELS[name].task}"


def _preset(name: str, preset: str) -> str:
    if MODELS[name].task == "classifier" or PRESETS[preset].shorter_side is None:
        return ""
    return f"data.preset: {preset!r} cuts out an image's middle, expected one that stretches for {name}"


def _fresh(init: str, scale_to_data: bool) -> str:
    return "model.scale_to_data: is for fresh weights, but model.init names a file" if init and scale_to_data else ""


def _sets(train: Sequence[Any]) -> str:
    return "" if train else "data.train: empty, expected at least one set"


def _classes(classes: Sequence[str]) -> str:
    if isinstance(classes, str):
        known = classes in ("voc", "coco", "all")
        return "" if known else f"data.classes: {classes!r}, expected 'voc', 'coco', 'all', or a list of names"
    if not classes:
        return "data.classes: empty, expected at least one name"
    twice = sorted({name for name in classes if classes.count(name) > 1})
    return f"data.classes: names a class twice ({', '.join(twice)})" if twice else ""


def _folders(kind: str, classes: Sequence[str], class_index: str) -> str:
    if kind != "imagenet":
        return ""
    if classes in ("voc", "coco"):
        return f"data.classes: {classes!r}, expected 'all' or a list of folders for ImageNet's layout"
    if class_index and classes != "all":
        return "data.classes: names classes, but data.class_index does so too, expected 'all'"
    return ""


def _overlaps(negative_iou: float, positive_iou: float) -> str:
    return "loss.negative_iou: above loss.positive_iou" if negative_iou > positive_iou else ""


def _monitor(name: str, monitor: str) -> str:
    measured = "mAP" if MODELS[name].task == "detector" else "accuracy"
    if monitor in ("", "loss", "validation_loss", measured):
        return ""
    return f"run.monitor: {monitor!r}, expected 'loss', 'validation_loss' or {measured!r} for {name}"


def _evaluated(evaluate: Sequence[Any], evaluate_every: int, monitor: str) -> str:
    if (evaluate and evaluate_every) or monitor in ("", "loss"):
        return ""
    return f"run.monitor: {monitor!r}, but nothing is evaluated (data.evaluate, run.evaluate_every)"


def _precision(precision: str, device: str) -> str:
    on_cpu = device.partition(":")[0] == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if precision != "float16" or not on_cpu:
        return ""
    return "run.precision: 'float16' needs a GPU, expected 'bfloat16' or 'float32' on the CPU"


_RULES: list[tuple[tuple[str, ...], Rule]] = [
    (("model.name", "data.coefficients"), _coefficients),
    (("data.coefficients", "augmentation.pixels"), _library),
    (("model.name", "data.kind"), _kind),
    (("model.name", "data.preset"), _preset),
    (("model.init", "model.scale_to_data"), _fresh),
    (("data.train",), _sets),
    (("data.classes",), _classes),
    (("data.kind", "data.classes", "data.class_index"), _folders),
    (("loss.negative_iou", "loss.positive_iou"), _overlaps),
    (("model.name", "run.monitor"), _monitor),
    (("data.evaluate", "run.evaluate_every", "run.monitor"), _evaluated),
    (("run.precision", "run.device"), _precision),
]
