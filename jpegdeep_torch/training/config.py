"""What a training run is: one dataclass, filled from a TOML file that states only what differs from its base."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..detection.loss import LossConfig
from ..errors import ConfigError
from ..jpeg.options import ORIENTATIONS, ReadOptions
from ..models import ANCHOR_SCALES, MODELS
from ..presets import PRESETS, current_name
from ..utils.settings import TomlError, build, merge, parse_toml, setting, to_toml
from .augmentation import AugmentationConfig
from .optimization import OPTIMIZERS, SCHEDULES
from .rules import contradictions
from .samples import TRAINING_COEFFICIENTS

KINDS = ("voc", "coco", "yolo", "imagenet")
MONITORS = ("mAP", "accuracy", "validation_loss", "loss")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ImageSet:
    """One set of images: the folder `root`, `set` of it, and, in a VOCdevkit, the `year`.

    YOLO: `root` holds a data.yaml, `set` is 'train', 'val' or 'test'.  ImageNet: `root`/`set` holds a folder for each
    class.
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
    """coefficients: how images become inputs, one of `samples.TRAINING_COEFFICIENTS`; RGB networks take 'pixels'.

    classes: the class names in label order, or 'voc', 'coco', or 'all' that the training sets name, sorted.  ImageNet:
        the folders' names, or 'all'.
    difficult: whether VOC's 'difficult' objects are trained on, as the reference does.  COCO's crowds never are.
    lenient: whether boxes and images that cannot be used are counted and left out, rather than refused.  Where
        one can no longer be read when its turn comes, another is read in its place.
    class_index: a file that says which folders are which classes (ImageNet; see `data.imagenet.read_imagenet`).
    orientation: whether annotations are of the upright pictures ('apply') or of the stored ones ('stored'); empty: what
        the sizes in them fit, and of YOLO's, which have none, 'apply'.  Boxes are turned to the pictures that are read.
    """

    kind: str = setting(choices=KINDS)
    train: tuple[ImageSet, ...] = setting()
    evaluate: tuple[ImageSet, ...] = ()
    classes: tuple[str, ...] | str = "all"
    coefficients: str = setting("native", choices=TRAINING_COEFFICIENTS)
    preset: str = setting("voc", choices=sorted(PRESETS))
    difficult: bool = True
    lenient: bool = False
    class_index: str = ""
    orientation: str = setting("", choices=("", *ORIENTATIONS))
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
    """A whole run.  `output` is its folder.  reading: how JPEGs are read, in training and in its evaluations."""

    model: ModelSettings
    data: DataSettings
    output: str = ""
    reading: ReadOptions = field(default_factory=ReadOptions)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    run: RunSettings = field(default_factory=RunSettings)


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package, sorted; those beginning with '_' are bases of others."""
    names = (entry.name for entry in resources.files(__package__).joinpath("recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml") and name[0] != "_")


@dataclass
class ParsedConfig:
    """A configuration as far as it could be read.

    config: None where there are `problems`, which list what is wrong.
    valid: every value that is as it should be, under its key's whole name: 'run.epochs'.
    notes: what follows from how the run was asked for, a line each.
    """

    config: TrainingConfig | None
    valid: dict[str, Any]
    problems: list[str]
    notes: list[str]

    def whole(self, source: str | os.PathLike[str]) -> TrainingConfig:
        """The configuration; ConfigError, of `source`, where there are problems."""
        refuse(source, self.problems)
        assert self.config is not None
        return self.config


def load_config(source: str | os.PathLike[str], changes: Sequence[str] = ()) -> TrainingConfig:
    """The run that a TOML file, or a recipe of `list_recipes()`, describes.

    A file's key `base` names a recipe, or a file beside it, whose statements hold where the file makes none.
    changes: 'optimizer.learning_rate=0.01' and the like, which come last; values are TOML, or text where they are not.

    ConfigError: lists every unknown key, missing key, wrong type, value out of range, and keys that contradict each
    other.
    """
    parsed = parse_config(source, changes)
    return parsed.whole(source)


def refuse(source: str | os.PathLike[str], problems: Sequence[str]) -> None:
    """ConfigError, listing `problems`, where there are any."""
    if problems:
        raise ConfigError(f"{source}: {len(problems)} mistakes: " + "; ".join(problems))


def parse_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | TrainingConfig,
    changes: Sequence[str] | Mapping[str, Any] = (),
    *,
    output: str = "",
    root: str = "",
    init: str = "",
) -> ParsedConfig:
    """As `load_config`, but what is wrong is listed beside what could be read.

    output: in place of the run's folder.  root: in place of every set's.  init: in place of `model.init`; fresh weights
    are not scaled then, unless `changes` ask for it.

    ConfigError: the file, or its base, is none.
    """
    table, problems, notes = _load_table(source, ()), list[str](), list[str]()
    if init and isinstance(model := table.get("model", {}), Mapping) and model.get("scale_to_data"):
        table = merge(table, {"model": {"scale_to_data": False}})
        notes.append(f"model.scale_to_data is off, since the weights come from {init}")
    for change in [changes] if isinstance(changes, Mapping) else [_change(text, problems) for text in changes]:
        table = merge(table, with_current_names(dict(change)))
    table = merge(table, ({"output": output} if output else {}) | ({"model": {"init": init}} if init else {}))
    if root:
        table = _with_root(table, root)
    valid: dict[str, Any] = {}
    config = build(TrainingConfig, table, "", problems, valid)
    problems += contradictions(valid)
    return ParsedConfig(None if problems else config, valid, problems, notes)


def _with_root(table: dict[str, Any], root: str) -> dict[str, Any]:
    """The table with `root` in every set of data.train and data.evaluate; what is no set stays as it is."""
    data = table.get("data")
    if not isinstance(data, Mapping):
        return table
    sets = {
        key: [merge(each, {"root": root}) if isinstance(each, Mapping) else each for each in data[key]]
        for key in ("train", "evaluate")
        if isinstance(data.get(key), list)
    }
    return merge(table, {"data": sets})


def with_current_names(table: dict[str, Any]) -> dict[str, Any]:
    """The table with the keys and words of today: `data.way` of versions before 0.2 is `data.coefficients`."""
    data = table.get("data")
    if not isinstance(data, Mapping) or "way" not in data:
        return table
    renamed = {("coefficients" if key == "way" else key): value for key, value in data.items()}
    if isinstance(renamed["coefficients"], str):
        renamed["coefficients"] = current_name(renamed["coefficients"])
    return {**table, "data": renamed}


def _load_table(
    source: str | os.PathLike[str] | Mapping[str, Any] | TrainingConfig, seen: tuple[Any, ...]
) -> dict[str, Any]:
    """The file's table, or the mapping, on top of its base's."""
    if isinstance(source, TrainingConfig):
        return parse_toml(to_toml(source))
    if isinstance(source, Mapping):
        return _on_base(with_current_names(dict(source)), Path(), "the configuration", seen)
    path = Path(source)
    if not path.is_file():
        inside = Path(str(resources.files(__package__))) / "recipes" / f"{source}.toml"
        if path.suffix or os.sep in str(source) or not inside.is_file():
            raise ConfigError(f"{source}: no such file, expected a TOML file or one of {', '.join(list_recipes())}")
        path = inside
    path = path.resolve()  # 'sub/../run.toml' is run.toml
    if path in seen:
        raise ConfigError(f"{source}: is its own base")
    try:
        table = with_current_names(parse_toml(path.read_text(encoding="utf-8-sig")))
    except (TomlError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not readable as TOML ({error})") from None
    return _on_base(table, Path(source).parent, source, (*seen, path))


def _on_base(table: dict[str, Any], folder: Path, source: object, seen: tuple[Any, ...]) -> dict[str, Any]:
    """`table` on top of its base: a recipe, or a file in `folder`."""
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ConfigError(f"{source}: base: {base!r}, expected the name of a recipe or file")
    beside = folder / base
    return merge(_load_table(beside if beside.is_file() else base, seen), table)


def _change(text: str, problems: list[str]) -> dict[str, Any]:
    """'a.b=1' -> {'a': {'b': 1}}."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        problems.append(f"{text}: expected KEY=VALUE, such as run.epochs=10")
        return {}
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except TomlError:
        parsed = value
    for name in reversed(key.strip().split(".")):
        parsed = {name: parsed}
    return parsed


def monitor_of(config: TrainingConfig) -> str:
    """What is monitored: `run.monitor`, or the task's own figure, or the loss where nothing is evaluated."""
    if config.run.monitor:
        return config.run.monitor
    if not (config.data.evaluate and config.run.evaluate_every):
        return "loss"
    return "mAP" if MODELS[config.model.name].task == "detector" else "accuracy"
