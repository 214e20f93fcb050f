"""Everything that can be wrong with a run, found before any work and said in one error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.classes import KNOWN_CLASSES
from ..errors import ConfigError, JpegDeepError
from ..evaluation.coco import find_evaluator
from ..jpeg.options import DEFAULT_OPTIONS
from .config import DataSettings, ParsedConfig, TrainingConfig, refuse
from .datasets import TrainingData, find_training_data
from .initialization import check_init
from .run_folder import STATE


@dataclass(frozen=True)
class Plan:
    """A run that can begin.  notes: what is worth knowing about it, a line each."""

    config: TrainingConfig
    data: TrainingData
    notes: list[str]

    def summary(self, device: object) -> str:
        """What is about to be trained, and the notes, a line each."""
        model = self.config.model
        return "\n".join([f"{model.name}, width {model.width:g}, on {device}: {self.data}", *self.notes])


def check_run(
    source: str | os.PathLike[str],
    parsed: ParsedConfig,
    *,
    writes: bool,
    resume: bool,
    progress: Callable[[int], object] = lambda pictures: None,
) -> Plan:
    """The run that `parsed` describes, with its data read.

    source: what errors call the configuration.  writes: whether it needs a folder to write to.  resume: whether it goes
    on from the state in that folder, if there is one.  progress: called with numbers of pictures looked at.

    ConfigError: lists what is wrong with configuration, data, folder, device, and the weights to start from.
    """
    valid, problems, found = parsed.valid, list(parsed.problems), list[str]()
    settings = _readable(parsed)
    options = valid.get("reading") or DEFAULT_OPTIONS
    data = None
    if settings:
        data = find_training_data(settings, found, options, thorough=not writes, progress=progress)
    problems += found
    output = valid.get("output")
    if writes and output == "":
        problems.append("no folder to write to, expected `output`")
    if "run.device" in valid:
        problems += _message("run.device", lambda: usable_device(valid["run.device"]))
    if valid.get("data.kind") == "coco" and valid.get("data.evaluate") and valid.get("run.evaluate_every"):
        problems += _message("data.evaluate", find_evaluator)  # or the run would end at its first evaluation
    init = valid.get("model.init")
    goes_on = resume and bool(output) and Path(str(output), STATE).is_file()  # the file may be gone by then
    if init and not goes_on and {"model.name", "model.width"} <= valid.keys():
        classes = len(data.class_names) if data else None
        problems += _message("model.init", lambda: check_init(init, valid["model.name"], classes, valid["model.width"]))
    refuse(source, problems)
    assert data is not None  # or something would have been wrong
    return Plan(parsed.whole(source), data, [*parsed.notes, *data.notes])


def usable_device(name: str) -> str:
    """The device that `run.device` names, 'auto' resolved; ConfigError where nothing can be computed on it."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"run.device: {name!r} cannot be used here ({reason})") from None
    return name


def _readable(parsed: ParsedConfig) -> DataSettings | None:
    """The data's settings, with what is wrong among them put so that it gives no cause for further complaints."""
    if not {"data.kind", "data.class_index"} <= parsed.valid.keys():
        return None
    values: dict[str, Any] = {"train": (), "evaluate": (), "lenient": True, "coefficients": "pixels"}
    values |= {key.removeprefix("data."): value for key, value in parsed.valid.items() if key.startswith("data.")}
    classes = values.get("classes", "all")
    named = not isinstance(classes, str) and len(classes) == len(set(classes)) > 0
    known = values["kind"] != "imagenet" and classes in KNOWN_CLASSES
    return DataSettings(**values | {"classes": classes if named or known else "all"})


def _message(key: str, check: Callable[[], object]) -> list[str]:
    """What `check` finds wrong with the setting `key`, if anything."""
    try:
        check()
    except ConfigError as error:
        return [str(error)]
    except JpegDeepError as error:
        return [f"{key}: {error}"]
    return []
