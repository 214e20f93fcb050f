"""Optimizers, learning rates and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING:
    from .config import OptimizerSettings, ScheduleSettings


def _sgd(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    kernels, others = groups
    # Keras adds l2 * sum(w^2) to the loss, whose gradient is 2 * l2 * w; weight_decay adds weight_decay * w.
    kernels["weight_decay"] = 2 * settings.l2
    nesterov = settings.nesterov and settings.momentum > 0
    return torch.optim.SGD(
        [kernels, others], lr=settings.learning_rate, momentum=settings.momentum, nesterov=nesterov, fused=True
    )


def _adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    kernels, others = groups
    kernels["weight_decay"] = settings.l2
    return torch.optim.AdamW([kernels, others], lr=settings.learning_rate, weight_decay=0.0, fused=True)


# Fused: one pass over each weight, which on a CPU takes half (SGD) to a quarter (AdamW) of the time.
OPTIMIZERS = {"sgd": _sgd, "adamw": _adamw}


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of `settings`; convolution and dense kernels decay, biases and normalisations do not."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return OPTIMIZERS[settings.kind]([{"params": kernels}, {"params": others, "weight_decay": 0.0}], settings)


def _constant(settings: ScheduleSettings, epoch: float, epochs: int, drops: int) -> float:
    return 1.0


def _plateau(settings: ScheduleSettings, epoch: float, epochs: int, drops: int) -> float:
    return settings.factor**drops


def _cosine(settings: ScheduleSettings, epoch: float, epochs: int, drops: int) -> float:
    share = (1 + math.cos(math.pi * min(1.0, epoch / epochs))) / 2
    return settings.final_fraction + (1 - settings.final_fraction) * share


def _steps(settings: ScheduleSettings, epoch: float, epochs: int, drops: int) -> float:
    return settings.factor ** sum(epoch >= milestone for milestone in settings.milestones)


Schedule = Callable[["ScheduleSettings", float, int, int], float]
SCHEDULES: dict[str, Schedule] = {"plateau": _plateau, "cosine": _cosine, "steps": _steps, "constant": _constant}


@dataclass
class Progress:
    """How the monitored figure has come along: what plateaus, early stopping and 'best' hang on.

    `since_best` counts evaluations without gain, `since_change` those since the last gain or drop of the rate.
    """

    larger_is_better: bool
    best: float | None = None
    since_best: int = 0
    since_change: int = 0
    drops: int = 0

    def update(self, value: float, settings: ScheduleSettings) -> bool:
        """Whether `value` is the best so far."""
        better = self.best is None or (value > self.best if self.larger_is_better else value < self.best)
        if better and not math.isnan(value):
            self.best, self.since_best, self.since_change = value, 0, 0
            return True
        self.since_best += 1
        self.since_change += 1
        if settings.kind == "plateau" and self.since_change >= settings.patience:
            self.drops, self.since_change = self.drops + 1, 0
        return False

    def finished(self, settings: ScheduleSettings) -> bool:
        """Whether early stopping says that it is enough."""
        return 0 < settings.stop_after <= self.since_best


def learning_rate(
    optimizer: OptimizerSettings,
    schedule: ScheduleSettings,
    *,
    batch_size: int,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    drops: int,
) -> float:
    """The rate of step `step` (from 0) for batches of `batch_size` images over all processes.

    In proportion to the batch, but for the first epochs, which lead up to it from the rate of a single process (Goyal
    et al., arXiv 1706.02677, section 2.2; Horovod's LearningRateWarmupCallback); and linearly from zero over
    `warmup_steps`.
    """
    epoch, growth = step / steps_per_epoch, batch_size / optimizer.base_batch_size
    if growth > 1 and epoch < schedule.scaling_epochs:
        growth = 1 + (growth - 1) * epoch / schedule.scaling_epochs
    rate = optimizer.learning_rate * growth * SCHEDULES[schedule.kind](schedule, epoch, epochs, drops)
    return rate * min(1.0, (step + 1) / (schedule.warmup_steps + 1))


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor]) -> float:
    """The 2-norm of all of them together; no finite number where one of their values is none, or beyond float32."""
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors)))))


def make_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of `model`'s weights and statistics; None for a decay of 0."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
