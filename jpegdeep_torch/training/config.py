"""What a training run is: one dataclass, filled from a TOML file that states only what differs from its base."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..models import ANCHOR_SCALES, MODELS
from ..presets import PRESETS
from .augmentation import AugmentationConfig
from .loss import LossConfig
from .optimization import OPTIMIZERS, SCHEDULES
from .samples import WAYS
from .tables import TomlError, build, merge, parse_toml, setting

KINDS = ("voc", "coco", "imagenet")
MONITORS = ("mAP", "accuracy", "validation_loss", "loss")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ImageSet:
    """One set of images: the folder `root`, `set` of it, and, in a VOCdevkit, the `year`.

    ImageNet: `root`/`set` holds a folder for each class.
    """

    root: str
    set: str = ""
    year: str = ""


@dataclass(frozen=True)
class ModelSettings:
    """name: a detector or classifier of `list_models()`.  width: multiplies its channels.

    init: a safetensors file to start from; what fits by name and shape is taken, and a detector takes a classifier's
        dense layers as its fc6 and fc7 (empty: fresh weights).
    scale_to_data: whether fresh weights are scaled so that the layers' outputs on the first images come to a deviation
        of 1 (`initialization.scale_to_data`); not with `init`.
    """

    name: str = setting(choices=sorted(MODELS))
    width: float = setting(1.0, above=0)
    anchor_scales: str = setting("voc", choices=tuple(ANCHOR_SCALES))
    init: str = ""
    scale_to_data: bool = False


@dataclass(frozen=True)
class DataSettings:
    """way: how images become inputs, one of `samples.WAYS`; RGB networks take 'pixels'.

    classes: the class names in label order, or 'voc', 'coco', or 'all' that the training sets name, sorted.
    difficult: whether VOC's 'difficult' objects are trained on, as the reference does.  COCO's crowds never are.
    lenient: whether boxes and images that cannot be used are counted and left out, rather than refused.
    class_index: a file that says which folders are which classes (ImageNet; see `data.imagenet.read_imagenet`).
    """

    kind: str = setting(choices=KINDS)
    train: tuple[ImageSet, ...] = field()
    evaluate: tuple[ImageSet, ...] = ()
    classes: tuple[str, ...] | str = "all"
    way: str = setting("dct", choices=WAYS)
    preset: str = setting("voc", choices=sorted(PRESETS))
    difficult: bool = True
    lenient: bool = False
    class_index: str = ""
    workers: int = setting(1, low=0)


@dataclass(frozen=True)
class OptimizerSettings:
    """learning_rate: for batches of `base_batch_size`; it grows in proportion to the batch of all processes together.
    l2: Keras's factor: l2 * sum(w^2) is added to the loss for convolution and dense kernels.  'adamw' decays by it.
    clip_norm: the largest norm of all gradients together (0: any).
    """

    kind: str = setting("sgd", choices=tuple(OPTIMIZERS))
    learning_rate: float = setting(1e-3, above=0)
    base_batch_size: int = setting(32, low=1)
    momentum: float = setting(0.9, low=0, high=1)
    nesterov: bool = False
    l2: float = setting(5e-4, low=0)
    clip_norm: float = setting(0.0, low=0)


@dataclass(frozen=True)
class ScheduleSettings:
    """kind: 'plateau' multiplies the rate by `factor` after `patience` evaluations without gain; 'cosine' falls to
        `final_fraction` of it in the last epoch; 'steps' multiplies by `factor` at each of `milestones` (epochs);
        'constant' leaves it.
    warmup_steps: the first steps lead up from a rate of zero.
    scaling_epochs: where the rate grows with the batch, the first epochs lead up to that, as under Horovod.
    stop_after: evaluations without gain after which training ends (0: never).
    """

    kind: str = setting("plateau", choices=tuple(SCHEDULES))
    warmup_steps: int = setting(0, low=0)
    scaling_epochs: float = setting(5.0, low=0)
    factor: float = setting(0.1, above=0, high=1)
    patience: int = setting(5, low=1)
    stop_after: int = setting(0, low=0)
    milestones: tuple[int, ...] = setting((), low=1)
    final_fraction: float = setting(0.0, low=0, high=1)


@dataclass(frozen=True)
class RunSettings:
    """batch_size: images a step and process.  steps_per_epoch: 0 for once through the training images.

    precision: 'bfloat16' and 'float16' are mixed precision.
    ema: the decay of an exponential moving average of the weights, which is then what is evaluated and saved (0: none).
    evaluate_every: epochs from one evaluation to the next (0: never; the last epoch is always evaluated otherwise).
    monitor: what decides on the best weights and on plateaus; empty: mAP or accuracy.
    save_steps: a state to resume from every so many steps, besides the one after every epoch (0: none).
    log_steps: steps from one line of the log to the next.
    sync_batch_norm: whether several processes share their batches' statistics.
    threads: of PyTorch in each process (0: its own choice).
    """

    epochs: int = setting(100, low=1)
    batch_size: int = setting(32, low=1)
    steps_per_epoch: int = setting(0, low=0)
    seed: int = setting(0, low=0)
    device: str = "auto"
    precision: str = setting("float32", choices=PRECISIONS)
    ema: float = setting(0.0, low=0, high=0.999999)
    evaluate_every: int = setting(1, low=0)
    monitor: str = setting("", choices=("", *MONITORS))
    save_steps: int = setting(0, low=0)
    log_steps: int = setting(10, low=1)
    sync_batch_norm: bool = True
    threads: int = setting(0, low=0)


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.  `output` is its folder."""

    model: ModelSettings
    data: DataSettings
    output: str = ""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    run: RunSettings = field(default_factory=RunSettings)


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package, sorted; those beginning with '_' are bases of others."""
    names = (entry.name for entry in resources.files(__package__).joinpath("recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml") and name[0] != "_")


def load_config(source: str | os.PathLike[str], changes: Sequence[str] = ()) -> TrainingConfig:
    """The run that a TOML file, or a recipe of `list_recipes()`, describes.

    A file's key `base` names a recipe, or a file beside it, whose statements hold where the file makes none.
    changes: 'optimizer.learning_rate=0.01' and the like, which come last; values are TOML, or text where they are not.

    ConfigError: lists every unknown key, missing key, wrong type and value out of range.
    """
    table = _load_table(source, ())
    problems: list[str] = []
    for change in changes:
        table = merge(table, _change(change, problems))
    config = build(TrainingConfig, table, "", problems)
    if config is not None:
        problems += _contradictions(config)
    if problems:
        raise ConfigError(f"{source}: {len(problems)} mistakes: " + "; ".join(problems))
    return config


def _load_table(source: str | os.PathLike[str], seen: tuple[Any, ...]) -> dict[str, Any]:
    """The file's table on top of its base's."""
    path = Path(source)
    if not path.is_file():
        inside = resources.files(__package__).joinpath("recipes", f"{source}.toml")
        if path.suffix or os.sep in str(source) or not inside.is_file():
            raise ConfigError(f"{source}: no such file, expected a TOML file or one of {', '.join(list_recipes())}")
        path = inside
    if path in seen:
        raise ConfigError(f"{source}: is its own base")
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except (TomlError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not readable as TOML ({error})") from None
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ConfigError(f"{source}: base: {base!r}, expected the name of a recipe or file")
    beside = Path(source).parent / base
    return merge(_load_table(beside if beside.is_file() else base, (*seen, path)), table)


def _change(text: str, problems: list[str]) -> dict[str, Any]:
    """'a.b=1' -> {'a': {'b': 1}}."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        problems.append(f"--set {text}: expected KEY=VALUE")
        return {}
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except TomlError:
        parsed = value
    for name in reversed(key.strip().split(".")):
        parsed = {name: parsed}
    return parsed


def _contradictions(config: TrainingConfig) -> list[str]:
    """What each key allows, but not the keys together."""
    found = []
    model, data, run = MODELS[config.model.name], config.data, config.run
    if not model.is_dct and data.way != "pixels":
        found.append(f"data.way: {data.way!r}, expected 'pixels' for {model.name}, which reads RGB")
    if (model.task == "classifier") != (data.kind == "imagenet"):
        found.append(f"data.kind: {data.kind!r} does not fit model.name {model.name!r}, a {model.task}")
    if model.task == "detector" and PRESETS[data.preset].shorter_side is not None:
        found.append(
            f"data.preset: {data.preset!r} cuts out an image's middle, expected one that stretches for {model.name}"
        )
    if config.model.init and config.model.scale_to_data:
        found.append("model.scale_to_data: is for fresh weights, but model.init names a file")
    if not data.train:
        found.append("data.train: empty, expected at least one set")
    if isinstance(data.classes, str) and data.classes not in ("voc", "coco", "all"):
        found.append(f"data.classes: {data.classes!r}, expected 'voc', 'coco', 'all', or a list of names")
    if isinstance(data.classes, tuple) and len(set(data.classes)) != len(data.classes):
        found.append("data.classes: names a class twice")
    if config.loss.negative_iou > config.loss.positive_iou:
        found.append("loss.negative_iou: above loss.positive_iou")
    measured = "mAP" if model.task == "detector" else "accuracy"
    if run.monitor not in ("", "loss", "validation_loss", measured):
        found.append(
            f"run.monitor: {run.monitor!r}, expected 'loss', 'validation_loss' or {measured!r} for {model.name}"
        )
    if not (data.evaluate and run.evaluate_every) and run.monitor not in ("", "loss"):
        found.append(f"run.monitor: {run.monitor!r}, but nothing is evaluated (data.evaluate, run.evaluate_every)")
    if run.precision == "float16" and run.device == "cpu":
        found.append("run.precision: 'float16' needs a GPU, expected 'bfloat16' or 'float32' on the CPU")
    return found


def monitor_of(config: TrainingConfig) -> str:
    """What is monitored: `run.monitor`, or the task's own figure, or the loss where nothing is evaluated."""
    if config.run.monitor:
        return config.run.monitor
    if not (config.data.evaluate and config.run.evaluate_every):
        return "loss"
    return "mAP" if MODELS[config.model.name].task == "detector" else "accuracy"
