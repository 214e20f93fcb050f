"""From JPEGs to their likeliest classes, as one object."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from ..jpeg import ReadOptions
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixels import DEFAULT_DECODER
from ..pretrained import load_model
from .predictor import Observer, Predictor

TOP = 5


class Classifier(Predictor):
    """Names the likeliest classes of JPEG files.

    `predict`, and `stream` as `Prediction.value`, give for each image `{"classes": (5,) int64, "probabilities": (5,)
    float32}` on the CPU, the likeliest first.  Classes count from 0.  There are fewer than five where the network has
    fewer classes.
    """

    task = "classifier"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        coefficients: str | None = None,
        precision: str = "float32",
        batch_size: int = 8,
        workers: int | None = None,
        decoder: str = DEFAULT_DECODER,
        read_options: ReadOptions = DEFAULT_OPTIONS,
        observer: Observer | None = None,
    ) -> Classifier:
        """The classifier of one weights file.  Arguments and errors are those of `Detector.load`."""
        model = load_model(path, task=cls.task)
        return cls(
            model, model.info.preparation(coefficients), device, backend, precision=precision, batch_size=batch_size,
            workers=workers, decoder=decoder, read_options=read_options, observer=observer,
        )  # fmt: skip

    def _postprocess(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[Any]:
        probabilities = outputs[0].float().softmax(dim=-1)
        best, classes = probabilities.topk(min(TOP, probabilities.shape[1]), dim=-1)
        return [{"classes": c, "probabilities": p} for c, p in zip(classes.cpu(), best.cpu())]
