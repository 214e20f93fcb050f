"""A whole training run from Python: `train("bccd_dct", root="BCCD", output="runs/bccd")`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, FailedElsewhere
from ..utils.distributed import collective_errors, process_group, rank
from .checks import Plan, check_run, usable_device
from .config import ParsedConfig, TrainingConfig, parse_config
from .report import Callbacks
from .run_folder import BEST, LAST, RunFolder
from .trainer import Trainer

ConfigSource = str | os.PathLike[str] | Mapping[str, Any] | TrainingConfig


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    folder: where its weights, log and configuration are (see docs/training.md).
    figures: of the last evaluation, and `best`, the best value of what was monitored.
    last, best: the weights after the last epoch and the best ones, which `Detector.load` and `Classifier.load` read;
        `best` is None where nothing was monitored.
    """

    folder: Path
    figures: dict[str, float]
    last: Path
    best: Path | None


def train(
    config: ConfigSource,
    *,
    output: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | None = None,
    changes: Sequence[str] | Mapping[str, Any] = (),
    resume: bool = False,
    callbacks: Callbacks | None = None,
) -> TrainingResult:
    """Trains a network.  The command `jpegdeep train` calls this.

    Under torchrun, every process calls it with the same arguments, and they train together.

    Args:
        config: the name of a recipe (`list_recipes()`), a TOML file, a mapping of the same keys, or a TrainingConfig.
        output: the run's folder, in place of the configuration's `output`.
        root: where the data lies, in place of every set's `root`.
        init: a weights file to start from, in place of `model.init`.
        changes: what replaces the configuration's statements: 'run.epochs=10' and the like, or a mapping.
        resume: whether to go on with the run in the folder, if there is one.
        callbacks: is told how the run gets on.

    Raises:
        ConfigError: lists all that is wrong with configuration, data, device and weights, before any work.
        TrainingError: the run cannot go on, or its folder holds another one.
        JpegError, DatasetError: an image cannot be used after all.
        FailedElsewhere: another process of the group cannot go on, and says itself why.
    """
    parsed = read_for_all(config, output=output, root=root, init=init, changes=changes)
    callbacks = callbacks or Callbacks()
    with process_group(group_device(parsed)) as device:
        plan = make_plan(config, parsed, writes=True, resume=resume, callbacks=callbacks)
        if plan.config.run.threads:
            torch.set_num_threads(plan.config.run.threads)
        callbacks.say(plan.summary(device))
        folder = RunFolder(plan.config.output, plan.config, resume=resume, writes=rank() == 0)
        trainer = Trainer(plan.config, plan.data, folder, device, callbacks)
        callbacks.begin(trainer.step, trainer.last_step)
        figures = trainer.fit()
        best = folder.path / BEST
        return TrainingResult(folder.path, figures, folder.path / LAST, best if best.is_file() else None)


def make_plan(config: ConfigSource, parsed: ParsedConfig, *, writes: bool, resume: bool, callbacks: Callbacks) -> Plan:
    """The run that `parsed` describes, with its data read; all processes call it.  See `checks.check_run`."""
    with collective_errors():
        return check_run(source_name(config), parsed, writes=writes, resume=resume, progress=callbacks.checked)


def read_for_all(
    config: ConfigSource, *, changes: Sequence[str] | Mapping[str, Any] = (), **paths: str | os.PathLike[str] | None
) -> ParsedConfig:
    """The configuration as far as it can be read; arguments as for `train`, paths: `output`, `root` and `init`.

    Where it cannot be read at all, the first process of a machine raises ConfigError, the others FailedElsewhere.
    """
    try:
        return parse_config(config, changes, **{name: os.fspath(path or "") for name, path in paths.items()})
    except ConfigError as error:
        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            raise FailedElsewhere(str(error)) from None
        raise


def group_device(parsed: ParsedConfig) -> str:
    """Where the processes meet; on the CPU where the device is one of the things that are wrong."""
    try:
        return usable_device(parsed.valid.get("run.device", "cpu"))
    except ConfigError:
        return "cpu"


def source_name(config: ConfigSource) -> str:
    """What messages call the configuration."""
    return "the configuration" if isinstance(config, (Mapping, TrainingConfig)) else os.fspath(config)
