"""Learning rates, optimizers and plateaus against the reference's facts and formulas."""

from __future__ import annotations

import math

import pytest
import torch

from jpegdeep_torch.training.config import OptimizerSettings, ScheduleSettings
from jpegdeep_torch.training.optimization import Progress, learning_rate, make_average, make_optimizer


def rates(schedule: ScheduleSettings, steps: int, batch_size: int = 32, drops: int = 0, per_epoch: int = 10):
    settings = OptimizerSettings(learning_rate=0.1, base_batch_size=32)
    common = {"batch_size": batch_size, "steps_per_epoch": per_epoch, "epochs": 10, "drops": drops}
    return [learning_rate(settings, schedule, step=step, **common) for step in range(steps)]


def test_cosine_falls_from_the_rate_to_its_final_fraction():
    found = rates(ScheduleSettings(kind="cosine", final_fraction=0.1), 101)
    expected = [0.1 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2) for step in range(101)]
    assert found == pytest.approx(expected) and found[0] == 0.1 and found[100] == pytest.approx(0.01)


def test_steps_plateau_and_constant():
    found = rates(ScheduleSettings(kind="steps", milestones=(2, 4), factor=0.5), 50)
    assert (found[19], found[20], found[39], found[40]) == pytest.approx((0.1, 0.05, 0.05, 0.025))
    assert rates(ScheduleSettings(kind="plateau"), 1, drops=2) == pytest.approx([0.001])
    assert set(rates(ScheduleSettings(kind="constant"), 50)) == {0.1}


def test_horovod_s_warm_up_to_the_rate_of_a_larger_batch():
    """initial_lr / size * (epoch * (size - 1) / warmup_epochs + 1), with initial_lr already times size."""
    found = rates(ScheduleSettings(kind="constant"), 60, batch_size=128)
    expected = [0.4 / 4 * (min(step / 10, 5) * 3 / 5 + 1) for step in range(60)]
    assert found == pytest.approx(expected)
    assert rates(ScheduleSettings(kind="constant"), 1, batch_size=16) == pytest.approx([0.05])


def test_a_warm_up_from_zero():
    found = rates(ScheduleSettings(kind="constant", warmup_steps=3), 5)
    assert found == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_a_plateau_lowers_the_rate_after_5_evaluations_without_gain_and_stops_after_15():
    settings, progress = ScheduleSettings(kind="plateau", patience=5, stop_after=15), Progress(larger_is_better=False)
    assert progress.update(1.0, settings)
    drops = []
    for _ in range(15):
        assert not progress.finished(settings)
        assert not progress.update(1.0, settings)
        drops.append(progress.drops)
    assert drops == [0] * 4 + [1] * 5 + [2] * 5 + [3] and progress.finished(settings)
    assert progress.update(0.5, settings) and not progress.finished(settings)
    assert not progress.update(float("nan"), settings)


def test_l2_is_keras_s_sum_of_squares_on_kernels_alone():
    model = torch.nn.Conv2d(1, 1, 1)
    kernel, bias = model.weight.item(), model.bias.item()
    optimizer = make_optimizer(model, OptimizerSettings(learning_rate=0.1, momentum=0.9, l2=0.05))
    penalty = 0.05 * kernel**2  # what Keras adds to the loss; its gradient, by finite differences
    gradient = (0.05 * (kernel + 1e-4) ** 2 - penalty) / 1e-4
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert model.weight.item() == pytest.approx(kernel - 0.1 * gradient, abs=1e-5) and model.bias.item() == bias


def test_the_moving_average():
    model = torch.nn.Linear(1, 1, bias=False)
    average = make_average(model, 0.75)
    expected = None
    for value in (1.0, 5.0, -3.0):
        torch.nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        expected = value if expected is None else 0.75 * expected + 0.25 * value
    assert average.module.weight.item() == pytest.approx(expected)
    assert make_average(model, 0.0) is None
