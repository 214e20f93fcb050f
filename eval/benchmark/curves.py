"""Runs as curves: loss and evaluated figure against steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.benchmark.figures import new_figure, save_figure
from jpegdeep_torch.errors import TrainingError
from jpegdeep_torch.training.run_folder import LOG, read_log

_FIGURES = ("mAP", "accuracy")


def read_curves(folder: str | os.PathLike[str]) -> dict[str, list[tuple[int, float]]]:
    """{'loss', and 'mAP' or 'accuracy' where there were evaluations, and 'validation_loss': [(step, value), ...]}.

    The loss is an epoch's mean.  TrainingError: the folder holds no run's log.
    """
    path = Path(folder) / LOG
    if not path.is_file():
        raise TrainingError(f"{path}: no such file, expected the log of a training run")
    try:
        curves = {"loss": [(row["step"], row["loss"]) for row in read_log(folder, "epoch")]}
        for row in read_log(folder, "evaluation"):
            for name in (*_FIGURES, "validation_loss"):
                if name in row:
                    curves.setdefault(name, []).append((row["step"], row[name]))
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None
    if not curves["loss"]:
        raise TrainingError(f"{path}: holds no epoch yet")
    return curves


def plot_curves(folders: Sequence[str | os.PathLike[str]], target: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Draws the runs, side by side and named after their folders -> their curves.

    TrainingError; DatasetError where matplotlib is missing.
    """
    curves = {Path(folder).name: read_curves(folder) for folder in folders}
    if len(curves) < len(folders):
        raise TrainingError("two of the runs' folders have the same name, by which the plot would tell them apart")
    figure = new_figure(10, 4)
    axes = figure.subplots(1, 2)
    for number, (name, lines) in enumerate(curves.items()):
        colour = f"C{number}"
        axes[0].plot(*zip(*lines["loss"]), color=colour, label=f"{name}, training")
        if "validation_loss" in lines:
            axes[0].plot(*zip(*lines["validation_loss"]), color=colour, linestyle="--", label=f"{name}, evaluation")
        for what in _FIGURES:
            if what in lines:
                axes[1].plot(*zip(*lines[what]), color=colour, marker="o", markersize=3, label=f"{name}, {what}")
    axes[0].set(xlabel="step", ylabel="loss", yscale="log")
    axes[1].set(xlabel="step", ylim=(0, 1))
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    try:
        save_figure(figure, target)
    except ValueError as error:  # a format that there is not
        raise TrainingError(f"{target}: {error}") from None
    return curves
