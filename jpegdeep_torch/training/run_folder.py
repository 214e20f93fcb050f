"""What a run leaves behind: its configuration, versions, logs, weights, and the state to go on from."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, TrainingError
from ..models import Network
from ..utils.distributed import collective_errors
from ..utils.environment import machine, versions
from ..utils.files import write_json, written_whole
from ..utils.settings import build, changed_settings, parse_toml, to_toml
from ..weights import save_weights
from .config import TrainingConfig, with_current_names

CONFIG, VERSIONS, LOG, STATE = "config.toml", "versions.json", "log.jsonl", "state.pt"
LAST, BEST, TENSORBOARD = "last.safetensors", "best.safetensors", "tensorboard"
# What may differ when a run is gone on with: none of it changes the result by more than rounding.
_FREE = {"output", "data.workers", "run.device", "run.threads", "run.save_steps", "run.log_steps"}
_IN_STATE = {"step", "model", "optimizer", "scaler", "average", "progress", "epoch", "figures"}


class RunFolder:
    """The folder of one run.  Only the process of rank 0 writes; for the others `writes` is False.

    All processes make it at the same time: where the first cannot, the others raise FailedElsewhere.
    """

    def __init__(self, path: str | os.PathLike[str], config: TrainingConfig, *, resume: bool, writes: bool):
        """TrainingError: the folder holds a run, and it is not to be gone on with, or is one of other settings.

        Where there is a state to go on from, `model.init` may be left out: the weights are in it.
        """
        self.path, self.writes = Path(path), writes
        self._log: Any = None
        self._board: Any = None
        with collective_errors():
            if writes:
                self._begin(config, resume)

    def _begin(self, config: TrainingConfig, resume: bool) -> None:
        held = self.path / CONFIG
        if held.is_file() and not resume:
            raise TrainingError(f"{self.path}: holds a run already; go on with it (`resume`), or choose another folder")
        if held.is_file():
            config = _compared(held, config, has_state=(self.path / STATE).is_file())
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise TrainingError(
                f"{self.path}: holds other files, expected an empty folder, or none, to write the run to"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be made ({error.strerror or error})") from None
        with written_whole(held) as temporary:
            temporary.write_text(to_toml(config), encoding="utf-8")
        write_json(self.path / VERSIONS, {"machine": machine(), "versions": versions()})

    def load_state(self) -> dict[str, Any] | None:
        """What `save_state` wrote last, on the CPU; None where there is nothing yet.  TrainingError: it is damaged."""
        path = self.path / STATE
        if not path.is_file():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes the reader stumble over anything
            what = f"cannot be read ({type(error).__name__})"
        else:
            if isinstance(state, dict) and state.keys() >= _IN_STATE:
                return state
            what = "holds something else"
        raise TrainingError(f"{path}: {what}, expected the state of a run")

    def save_state(self, state: dict[str, Any]) -> None:
        """Whole or not at all.  It has the keys of _IN_STATE, and `world_size`."""
        if self.writes:
            with written_whole(self.path / STATE) as temporary:
                torch.save(state, temporary)

    def save_model(
        self, name: str, model: Network, preset: str, class_names: tuple[str, ...], coefficients: str | None
    ) -> None:
        """Writes `name` (LAST or BEST), which Detector.load and Classifier.load read."""
        if self.writes:
            save_weights(model, self.path / name, preset, class_names, coefficients)

    def save_bad_batch(self, contents: dict[str, Any], rank: int) -> Path:
        """For a look at what made the loss infinite, in any process: each has a batch of its own."""
        path = self.path / (f"bad_batch_{rank}.pt" if rank else "bad_batch.pt")
        path.parent.mkdir(parents=True, exist_ok=True)  # on another machine
        with written_whole(path) as temporary:
            torch.save(contents, temporary)
        return path

    def open_logs(self, step: int) -> str | None:
        """Begins logging after step `step`; what an earlier, killed run logged beyond it is taken back.

        -> a remark, where there is no TensorBoard.
        """
        if not self.writes:
            return None
        path = self.path / LOG
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                kept += [line] if json.loads(line)["step"] <= step else []
            except (ValueError, KeyError):
                continue  # cut short when the run was killed
        with written_whole(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._log = open(path, "a", encoding="utf-8")  # noqa: SIM115 - held until close()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return f'no TensorBoard logs: pip install "jpegdeep-torch[train]" brings them; {path} has the same figures'
        self._board = SummaryWriter(str(self.path / TENSORBOARD), purge_step=step + 1 if step else None)
        return None

    def log(self, step: int, values: Mapping[str, float], kind: str) -> None:
        """A line of log.jsonl, `{"kind": 'step', 'epoch' or 'evaluation', "step", ...}`, and TensorBoard's scalars.

        What is not finite, such as the AP of a class without objects, is null: JSON has no NaN.
        """
        if self._log is None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._log.write(json.dumps({"kind": kind, "step": step, **finite}, allow_nan=False) + "\n")
        self._log.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name if "/" in name else f"{kind}/{name}", value, step)

    def close(self) -> None:
        for each in (self._log, self._board):
            if each is not None:
                each.close()
        self._log = self._board = None


def read_log(path: str | os.PathLike[str], kind: str) -> list[dict[str, Any]]:
    """The rows of one kind of a run's log.jsonl; its nulls are NaN."""
    rows = map(json.loads, (Path(path) / LOG).read_text(encoding="utf-8").splitlines())
    return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows if row["kind"] == kind]


def _compared(held: Path, config: TrainingConfig, has_state: bool) -> TrainingConfig:
    """`config` as it is to be written again.  TrainingError where the run in the folder was one of other settings."""
    try:
        before = with_current_names(parse_toml(held.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{held}: cannot be read ({error}), expected the configuration of the run") from None
    began = before.get("model", {})
    if has_state and not config.model.init and began.get("init"):  # the record of where the weights came from stays
        kept = {key: began[key] for key in ("init", "scale_to_data") if key in began}
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **kept))
    complete = build(TrainingConfig, before, "", [])  # keys that are newer than the run have their defaults
    before = before if complete is None else parse_toml(to_toml(complete))
    now = parse_toml(to_toml(config))
    changes = changed_settings(before, now, ignored=_FREE, text="{}: there {!r}, now {!r}")
    if changes:
        raise TrainingError(
            f"{held.parent}: holds a run of other settings ({'; '.join(changes)}); choose another folder"
        )
    return config
