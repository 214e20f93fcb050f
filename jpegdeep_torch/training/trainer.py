"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.loader import batch_loader
from ..errors import JpegDeepError, TrainingError
from ..models import Network, create_model, model_config
from ..utils.distributed import (
    all_summed,
    collective_errors,
    gathered_objects,
    in_any_process,
    is_distributed,
    raise_together,
    rank,
    world_size,
)
from .config import TrainingConfig, monitor_of
from .datasets import TrainingData
from .initialization import initialize, scale_to_data
from .optimization import Progress, learning_rate, make_average, make_optimizer, total_norm
from .report import Callbacks, RunningMeans
from .run_folder import BEST, LAST, RunFolder
from .sampler import TrainingSampler, mixed
from .samples import ReturningErrors, TrainingBatch
from .synchronized import share_dropout, synchronize_batch_norm
from .tasks import LARGER_IS_BETTER, TASKS

_IMAGES_TO_SCALE = 16
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """One run, from `config` and `data` to weights in `folder`.

    The result hangs on the configuration alone, not on the number of workers, nor on how often the run was cut off and
    gone on with; on one machine's CPU, to the last bit.  All processes of a group make it, and call `fit`, at the same
    time; where one cannot go on, it raises its error, and the others raise FailedElsewhere.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        folder: RunFolder,
        device: torch.device,
        callbacks: Callbacks | None = None,
    ):
        self.config, self.data, self.folder, self.device = config, data, folder, device
        self.callbacks, run = callbacks or Callbacks(), config.run
        state = self._held_state()
        with collective_errors():
            self.model = self._new_model(is_held=state is not None)
        if run.sync_batch_norm and is_distributed():
            synchronize_batch_norm(self.model)
        self.task = TASKS[self.model.config.task](config, data, self.model.config, device)
        self.samples = self.task.training_samples()
        self.batch_size = run.batch_size * world_size()
        self.steps_per_epoch = run.steps_per_epoch or max(1, len(self.samples) // self.batch_size)
        self.last_step = run.epochs * self.steps_per_epoch
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.average = make_average(self.model, run.ema)
        self.scaler = torch.amp.GradScaler(device.type, enabled=run.precision == "float16")
        self.monitor = monitor_of(config)
        self.progress = Progress(self.monitor in LARGER_IS_BETTER)
        self.step = 0  # steps done
        self.window, self.epoch = RunningMeans(), RunningMeans()
        self.figures: dict[str, float] = {}
        self.left_out: set[str] = set()  # what was said of pictures that could not be read
        if state is not None:
            self._resume(state)
        elif config.model.scale_to_data and not config.model.init:  # which is for fresh weights alone
            self._scale_to_data()
        if is_distributed():
            share_dropout(self.model)

    def _held_state(self) -> dict[str, Any] | None:
        """The state in the folder, if there is one; TrainingError where it cannot be gone on from by these processes.

        Without the number of processes, of older runs, any will do.
        """
        path = self.folder.path
        with collective_errors():
            state = self.folder.load_state()
            processes = world_size() if state is None else state.get("world_size", world_size())
            if processes != world_size():
                raise TrainingError(
                    f"{path}: holds a run of {processes} processes, got {world_size()}, expected as many: batch and "
                    "learning rate hang on their number"
                )
        steps = gathered_objects(None if state is None else state["step"])
        if len(set(steps)) > 1:
            found = ", ".join(f"rank {i} {'none' if step is None else step}" for i, step in enumerate(steps))
            raise_together(
                TrainingError(f"{path}: not the same state for all processes ({found}), expected a shared folder")
            )
        return state

    def _new_model(self, is_held: bool) -> Network:
        """The network with the weights to start from, on the device; as they come where a state holds others."""
        settings = self.config.model
        scales = settings.anchor_scales if model_config(settings.name).task == "detector" else None
        seed = mixed(self.config.run.seed, 0) % 2**31
        model = create_model(settings.name, len(self.data.class_names), scales, width=settings.width, seed=seed)
        if settings.init and not is_held:
            self.callbacks.say(initialize(model, settings.init))
        return model.to(self.device).to(memory_format=torch.channels_last)

    def fit(self) -> dict[str, float]:
        """Trains to the end -> the figures of the last evaluation, `best` among them.

        TrainingError: the loss, the gradient or the weights are no longer finite; the batch is in the run's folder, and
        nothing of such weights.  JpegError, DatasetError: an image cannot be used.
        """
        remark = self.folder.open_logs(self.step)
        if remark:
            self.callbacks.say(remark)
        try:
            if not self._has_finished():
                self._steps()
            if self.left_out:
                self.callbacks.say(f"{len(self.left_out)} pictures could not be read")
        finally:
            self.folder.close()
        best = {} if self.progress.best is None else {"best": self.progress.best}
        return self.figures | best

    def _steps(self) -> None:
        network = DistributedDataParallel(self.model) if is_distributed() else self.model
        for batch, waited, started in self._batches():
            parts = self._train(network, batch)
            self._report(len(batch.names) * world_size(), time.perf_counter() - started + waited, waited, parts)
            if self.step % self.steps_per_epoch == 0:
                self._end_epoch(batch)
                if self._has_finished():
                    break
            elif self.config.run.save_steps and self.step % self.config.run.save_steps == 0:
                self._save_state()

    def _has_finished(self) -> bool:
        finished = self.progress.finished(self.config.schedule)
        if finished:
            self.callbacks.say(f"stopped: {self.config.schedule.stop_after} evaluations without gain")
        return finished

    def _batches(self) -> Iterator[tuple[TrainingBatch, float, float]]:
        """(batch, seconds waited for it, when it was there)."""
        run, workers = self.config.run, self.config.data.workers
        stream = TrainingSampler(
            len(self.samples), run.batch_size, run.seed, self.step, self.last_step, rank(), world_size()
        )
        loader = batch_loader(ReturningErrors(self.samples), stream, workers, self.device)
        asked = time.perf_counter()
        for batch in loader:
            started = time.perf_counter()
            raise_together(batch if isinstance(batch, JpegDeepError) else None)
            self._say_left_out(batch.left_out, "another picture is read in its place")
            yield batch, started - asked, started
            asked = time.perf_counter()

    def _train(self, network: nn.Module, batch: TrainingBatch) -> dict[str, float]:
        """One step -> its figures."""
        settings, step = self.config.optimizer, self.step
        self.step += 1
        rate = learning_rate(
            settings,
            self.config.schedule,
            batch_size=self.batch_size,
            step=step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.config.run.epochs,
            drops=self.progress.drops,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        # What a layer draws (dropout) hangs on the step alone, so that it is the same after a resume, and in all
        # processes, of which each takes its share (`distributed.SharedDropout`).
        torch.manual_seed(mixed(self.config.run.seed, step))
        with self._autocast():
            loss, parts = self.task.losses(network, batch)
        values = torch.stack(list(parts.values())).double()
        figures = dict(zip(parts, all_summed(values).tolist()))
        self._check(figures["loss"], "the loss", batch, own=dict(zip(parts, values.tolist()))["loss"])
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        if settings.clip_norm:
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm))
        else:
            norm = total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        if not self.scaler.is_enabled():  # which leaves such steps out, and goes on with a smaller scale
            self._check(norm, "the gradient's norm", batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._check(total_norm(self.model.parameters()), "the weights' norm", batch)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return figures | {"gradient_norm": norm, "learning_rate": rate}

    def _autocast(self) -> contextlib.AbstractContextManager:
        dtype = _DTYPES.get(self.config.run.precision)
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    def _check(self, value: float, what: str, batch: TrainingBatch, own: float | None = None) -> None:
        """TrainingError where `value`, which is the same in every process, is not a finite number.

        own: this process's share of it.  Processes whose shares are finite are not to blame; where there are no shares,
        all of them are.
        """
        if math.isfinite(value):
            return
        error, own = None, value if own is None else own
        if not math.isfinite(own):
            contents = {k: v for k, v in vars(batch).items() if k != "lease"} | {"step": self.step - 1}
            path = self.folder.save_bad_batch(contents, rank())
            shown = ", ".join(batch.names[:3]) + (", ..." if len(batch.names) > 3 else "")
            error = TrainingError(
                f"step {self.step}: {what} is {own}, expected a finite number, on {shown}; the batch is in {path}"
            )
        raise_together(error)

    def _report(self, images: int, seconds: float, waited: float, parts: dict[str, float]) -> None:
        for window in (self.window, self.epoch):
            window.add(images, seconds, waited, parts)
        figures = self.window.figures()
        shown = {
            "loss": f"{figures['loss']:.4f}",
            "images/s": f"{figures['images_per_s']:.1f}",
            "waiting": f"{figures['data_wait']:.0%}",
        }
        self.callbacks.step(self.step, shown)
        if self.step % self.config.run.log_steps == 0:
            self.folder.log(self.step, figures, "step")
            self.window = RunningMeans()

    def _end_epoch(self, batch: TrainingBatch) -> None:
        """`batch` was the last."""
        run, epoch = self.config.run, self.step // self.steps_per_epoch
        figures = self.epoch.figures()
        self.folder.log(self.step, {"epoch": epoch, **figures}, "epoch")
        self.epoch = RunningMeans()
        line = f"epoch {epoch} of {run.epochs}: loss {figures['loss']:.4f}, {figures['images_per_s']:.1f} images/s"
        measured = {"loss": figures["loss"]}
        due = run.evaluate_every and (epoch % run.evaluate_every == 0 or epoch == run.epochs)
        evaluated = bool(self.data.evaluate is not None and due)
        if evaluated:
            self.figures = self._evaluate()
            self.folder.log(self.step, {"epoch": epoch, **self.figures}, "evaluation")
            # Weights may be finite, and yet so large that what the network answers is not.
            self._check(self.figures["validation_loss"], "the validation loss after it", batch)
            measured |= self.figures
            line += "".join(f", {name} {value:.4f}" for name, value in self.figures.items() if "/" not in name)
        if self.monitor in measured and self.progress.update(measured[self.monitor], self.config.schedule):
            self._save_model(BEST)
            line += " (best)"
        self.callbacks.say(line)
        self._save_model(LAST)
        self._save_state()

    def _evaluated_model(self) -> Network:
        return self.model if self.average is None else cast(Network, self.average.module)

    def _evaluate(self) -> dict[str, float]:
        model = self._evaluated_model().eval()
        with torch.inference_mode(), self._autocast():
            figures = self.task.evaluate(model, self.callbacks.evaluated)
        self._say_left_out(self.task.left_out, "evaluated without it")
        return figures

    def _say_left_out(self, found: list[str], instead: str) -> None:
        """Says once of each picture what is wrong with it, whichever process met it."""
        if not self.config.data.lenient or not in_any_process(not self.left_out.issuperset(found)):
            return
        for text in dict.fromkeys(text for texts in gathered_objects(found) for text in texts):
            if text not in self.left_out:
                self.left_out.add(text)
                self.callbacks.say(f"left out: {text}; {instead}")

    def _save_model(self, name: str) -> None:
        model = self._evaluated_model()
        coefficients = self.task.preset.coefficients if model.config.is_dct else None
        self.folder.save_model(name, model, self.config.data.preset, tuple(self.data.class_names), coefficients)

    def _save_state(self) -> None:
        state: dict[str, Any] = {
            "step": self.step,
            "world_size": world_size(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "epoch": dataclasses.asdict(self.epoch),
            "figures": self.figures,
        }
        self.folder.save_state(state)

    def _scale_to_data(self) -> None:
        """The same in every process, and for any number of them: all see the images that one would see first."""
        torch.manual_seed(mixed(self.config.run.seed, 0))
        keys = next(iter(TrainingSampler(len(self.samples), _IMAGES_TO_SCALE, self.config.run.seed, 0, 1)))
        with collective_errors():
            batch = self.samples.__getitems__(keys)
        scale_to_data(self.model.train(), lambda: self.task.outputs(self.model, batch))

    def _resume(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.progress = Progress(**state["progress"])
        self.epoch = RunningMeans(**state["epoch"])
        self.figures = state["figures"]
        self.callbacks.say(f"going on after step {self.step} of {self.last_step}")
