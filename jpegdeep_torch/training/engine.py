"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.dataset import batch_loader
from ..errors import TrainingError
from ..models import create_model, model_config
from .config import TrainingConfig, monitor_of
from .distributed import all_summed, is_distributed, rank, synchronize_batch_norm, world_size
from .initialization import initialize, scale_to_data
from .optimization import Progress, learning_rate, make_average, make_optimizer
from .run_folder import BEST, LAST, RunFolder
from .samples import TrainingBatch
from .sources import TrainingData
from .stream import Stream, mixed
from .tasks import LARGER_IS_BETTER, TASKS

_IMAGES_TO_SCALE = 16
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Display:
    """Where a run tells how it gets on; each may be left out.

    say: a line.  step: after each, the number of steps done and what to show beside it.  evaluated: images, as they
        are done.
    """

    say: Callable[[str], None] = lambda line: None
    step: Callable[[int, dict[str, str]], None] = lambda done, shown: None
    evaluated: Callable[[int], None] = lambda images: None


@dataclass
class Window:
    """Sums over the steps since the last report."""

    images: int = 0
    steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, images: int, seconds: float, waiting: float, parts: dict[str, float]) -> None:
        self.images, self.steps = self.images + images, self.steps + 1
        self.seconds, self.waiting = self.seconds + seconds, self.waiting + waiting
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def figures(self) -> dict[str, float]:
        """The parts' means, images/s of all processes, and the share of the time spent waiting for data."""
        means = {name: value / self.steps for name, value in self.parts.items()}
        speed = self.images / self.seconds if self.seconds else 0.0
        return means | {"images_per_s": speed, "data_wait": self.waiting / self.seconds if self.seconds else 0.0}


class Trainer:
    """One run, from `config` and `data` to weights in `folder`.

    The result hangs on the configuration alone, not on the number of workers, nor on how often the run was cut off and
    gone on with; on one machine's CPU, to the last bit.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        folder: RunFolder,
        device: torch.device,
        display: Display | None = None,
    ):
        self.config, self.data, self.folder, self.device = config, data, folder, device
        self.display = display = display or Display()
        settings, run = config.model, config.run
        scales = settings.anchor_scales if model_config(settings.name).task == "detector" else None
        self.model = create_model(
            settings.name, len(data.class_names), scales, width=settings.width, seed=mixed(run.seed, 0) % 2**31
        )
        if settings.init:
            display.say(initialize(self.model, settings.init))
        self.model.to(device, memory_format=torch.channels_last)
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
        self.window, self.epoch = Window(), Window()
        self.figures: dict[str, float] = {}
        if not self._resume() and settings.scale_to_data:
            self._scale_to_data()

    def fit(self) -> dict[str, float]:
        """Trains to the end -> the figures of the last evaluation, `best` among them.

        TrainingError: the loss is no longer a number; the batch is in the run's folder.
        """
        remark = self.folder.open_logs(self.step)
        if remark:
            self.display.say(remark)
        network = DistributedDataParallel(self.model) if is_distributed() else self.model
        try:
            for batch, waited, started in self._batches():
                parts = self._train(network, batch)
                self.step += 1
                self._report(len(batch.names) * world_size(), time.perf_counter() - started + waited, waited, parts)
                if self.step % self.steps_per_epoch == 0:
                    self._end_epoch()
                    if self.progress.finished(self.config.schedule):
                        self.display.say(f"stopped: {self.config.schedule.stop_after} evaluations without gain")
                        break
                elif self.config.run.save_steps and self.step % self.config.run.save_steps == 0:
                    self._save_state()
        finally:
            self.folder.close()
        best = {} if self.progress.best is None else {"best": self.progress.best}
        return self.figures | best

    def _batches(self) -> Iterator[tuple[TrainingBatch, float, float]]:
        """(batch, seconds waited for it, when it was there)."""
        run, workers = self.config.run, self.config.data.workers
        stream = Stream(len(self.samples), run.batch_size, run.seed, self.step, self.last_step, rank(), world_size())
        loader = batch_loader(self.samples, stream, workers, self.device)
        asked = time.perf_counter()
        for batch in loader:
            started = time.perf_counter()
            yield batch, started - asked, started
            asked = time.perf_counter()

    def _train(self, network: nn.Module, batch: TrainingBatch) -> dict[str, float]:
        """One step -> its figures."""
        settings = self.config.optimizer
        rate = learning_rate(
            settings,
            self.config.schedule,
            batch_size=self.batch_size,
            step=self.step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.config.run.epochs,
            drops=self.progress.drops,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        # What a layer draws (dropout) hangs on the step alone, so that it is the same after a resume.
        torch.manual_seed(mixed(self.config.run.seed, self.step * world_size() + rank()))
        with self._autocast():
            loss, parts = self.task.losses(network, batch)
        values = all_summed(torch.stack(list(parts.values())).double()).tolist()
        figures = dict(zip(parts, values))
        self._check(figures["loss"], "the loss", batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm))
            if not self.scaler.is_enabled():  # which leaves such steps out, and goes on with a smaller scale
                self._check(norm, "the gradient's norm", batch)
            figures["gradient_norm"] = norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return figures | {"learning_rate": rate}

    def _autocast(self) -> contextlib.AbstractContextManager:
        dtype = _DTYPES.get(self.config.run.precision)
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    def _check(self, value: float, what: str, batch: TrainingBatch) -> None:
        if abs(value) < float("inf"):
            return
        shown = ", ".join(batch.names[:3]) + (", ..." if len(batch.names) > 3 else "")
        where = ""
        if self.folder.writes:
            contents = {k: v for k, v in vars(batch).items() if k != "lease"} | {"step": self.step}
            where = f"; the batch is in {self.folder.save_bad_batch(contents)}"
        raise TrainingError(f"step {self.step + 1}: {what} is {value}, expected a finite number, on {shown}{where}")

    def _report(self, images: int, seconds: float, waited: float, parts: dict[str, float]) -> None:
        for window in (self.window, self.epoch):
            window.add(images, seconds, waited, parts)
        figures = self.window.figures()
        shown = {
            "loss": f"{figures['loss']:.4f}",
            "images/s": f"{figures['images_per_s']:.1f}",
            "waiting": f"{figures['data_wait']:.0%}",
        }
        self.display.step(self.step, shown)
        if self.step % self.config.run.log_steps == 0:
            self.folder.log(self.step, figures, "step")
            self.window = Window()

    def _end_epoch(self) -> None:
        run, epoch = self.config.run, self.step // self.steps_per_epoch
        figures = self.epoch.figures()
        self.folder.log(self.step, {"epoch": epoch, **figures}, "epoch")
        self.epoch = Window()
        line = f"epoch {epoch} of {run.epochs}: loss {figures['loss']:.4f}, {figures['images_per_s']:.1f} images/s"
        measured = {"loss": figures["loss"]}
        due = run.evaluate_every and (epoch % run.evaluate_every == 0 or epoch == run.epochs)
        evaluated = bool(self.data.evaluate is not None and due)
        if evaluated:
            self.figures = self._evaluate()
            self.folder.log(self.step, {"epoch": epoch, **self.figures}, "evaluation")
            measured |= self.figures
            line += "".join(f", {name} {value:.4f}" for name, value in self.figures.items() if "/" not in name)
        if self.monitor in measured and self.progress.update(measured[self.monitor], self.config.schedule):
            self._save_model(BEST)
            line += " (best)"
        self.display.say(line)
        self._save_model(LAST)
        self._save_state()

    def _evaluated_model(self) -> nn.Module:
        return self.model if self.average is None else self.average.module

    def _evaluate(self) -> dict[str, float]:
        model = self._evaluated_model().eval()
        with torch.inference_mode(), self._autocast():
            return self.task.evaluate(model, self.display.evaluated)

    def _save_model(self, name: str) -> None:
        model = self._evaluated_model()
        self.folder.save_model(name, model, self.config.data.preset, tuple(self.data.class_names))

    def _save_state(self) -> None:
        state: dict[str, Any] = {
            "step": self.step,
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
        keys = next(iter(Stream(len(self.samples), _IMAGES_TO_SCALE, self.config.run.seed, 0, 1)))
        scale_to_data(self.model.train(), lambda: self.task.answers(self.model, self.samples.__getitems__(keys)))

    def _resume(self) -> bool:
        """Takes over the state in the folder, if there is one."""
        state = self.folder.load_state()
        if state is None:
            return False
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.progress = Progress(**state["progress"])
        self.epoch = Window(**state["epoch"])
        self.figures = state["figures"]
        self.display.say(f"going on after step {self.step} of {self.last_step}")
        return True
