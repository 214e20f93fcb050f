"""The whole path, from JPEGs to boxes, as one object."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from ..data.classes import KNOWN_CLASSES
from ..detection import NMSConfig, detect, ssd300_anchors
from ..presets import Preset, get_preset
from ..weights import load_model
from .predictor import Pipeline, known_class_names
from .sources import Sources


class Detector(Pipeline):
    """Finds objects in JPEG files.

    detector = Detector.load("ssd300_vgg16_dct.safetensors", device="cuda")
    for answer in detector.stream("photos/"):
        print(answer.name, answer.value["boxes"])
    """

    task = "detector"

    def __init__(
        self,
        model: nn.Module,
        preset: Preset | str = "voc",
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        class_names: tuple[str, ...] | None = None,
        nms: NMSConfig | None = None,
        **options: Any,
    ):
        """`options`: precision, batch_size, workers, decoder (see Pipeline)."""
        super().__init__(model, get_preset(preset) if isinstance(preset, str) else preset, device, backend, **options)
        self.class_names = known_class_names(class_names, self.config.num_classes, KNOWN_CLASSES.values())
        self.nms = nms or NMSConfig()
        self._anchors = ssd300_anchors(self.config.anchor_scales, self.device)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        dct: str | None = None,
        **options: Any,
    ) -> Detector:
        """The detector of one weights file.

        Args:
            path: a safetensors file of `save_weights` or the converter; network, classes and preset are its own.
            device: 'cpu', 'cuda' or 'cuda:N'.
            backend: one of `backends.list_backends()`.
            dct: 'reencode' or 'dct', for another way to coefficients than the file's, or else its preset's.
            options: precision ('float32', ...), batch_size (8), workers, decoder, nms (NMSConfig).

        Raises:
            CheckpointError, BackendUnavailable, ModelError, DatasetError.
        """
        model = load_model(path)
        return cls(model, model.info.preparation(dct), device, backend, class_names=model.info.class_names, **options)

    def __call__(self, sources: Sources, on_error: str = "raise") -> list[dict[str, Tensor] | None]:
        """Detections in the order given: `{"boxes": (K, 4) float32 xmin, ymin, xmax, ymax in pixels of the original,
        "scores": (K,) float32 falling, "labels": (K,) int64 from 1}`, on the CPU.

        `sources`: a path, a JPEG's bytes, a folder, or several of these.  A file that cannot be read raises JpegError
        (`on_error="raise"`), is left out ("skip"), or gives None ("report").
        """
        return [answer.value for answer in self.stream(sources, on_error)]

    def _answers(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[dict[str, Tensor]]:
        return _to_cpu(detect(*outputs, self._anchors, image_sizes, self.nms))


def _to_cpu(found: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """One transfer a key rather than one an image and key."""
    if not found or found[0]["scores"].device.type == "cpu":
        return found
    counts = [len(item["scores"]) for item in found]
    columns = {key: torch.cat([item[key] for item in found]).cpu().split(counts) for key in found[0]}
    return [{key: column[i] for key, column in columns.items()} for i in range(len(found))]
