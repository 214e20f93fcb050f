"""The classifiers' counterpart of the detector: JPEGs to the likeliest classes."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from ..weights import load_model
from .predictor import Pipeline

TOP = 5


class Classifier(Pipeline):
    """Answers `{"classes": (5,) int64 from 0, "probabilities": (5,) float32}`, likeliest first, of those there are."""

    task = "classifier"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        dct: str | None = None,
        **options: Any,
    ) -> Classifier:
        """The classifier of one weights file; arguments as for `Detector.load`."""
        model = load_model(path)
        return cls(model, model.info.preparation(dct), device, backend, **options)

    def _answers(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[dict[str, Tensor]]:
        probabilities = outputs[0].float().softmax(dim=-1)
        best, classes = probabilities.topk(min(TOP, probabilities.shape[1]), dim=-1)
        return [{"classes": c, "probabilities": p} for c, p in zip(classes.cpu(), best.cpu())]
