"""The whole path, from JPEGs to boxes, as one object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..data.classes import KNOWN_CLASSES
from ..detection import NMSConfig, detect, ssd300_anchors
from ..jpeg.pixels import DEFAULT_DECODER
from ..presets import Preset
from ..weights import load_model
from .predictor import Observer, Predictor


class Detector(Predictor):
    """Finds objects in JPEG files.

    detector = Detector.load("ssd300_vgg16_dct.safetensors", threshold=0.5)
    for found in detector.predict(["a.jpg", "b.jpg"]):
        print(found["boxes"], found["scores"], found["labels"])

    `predict` gives for each image, on the CPU, `{"boxes": (K, 4) float32, "scores": (K,) float32,
    "labels": (K,) int64}`: boxes as xmin, ymin, xmax, ymax in pixels of the original image, best score first, labels
    from 1.
    """

    task = "detector"

    def __init__(
        self,
        model: nn.Module,
        preset: Preset | str = "voc",
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        class_names: Sequence[str] | None = None,
        threshold: float | None = None,
        nms: NMSConfig | None = None,
        precision: str = "float32",
        batch_size: int = 8,
        workers: int | None = None,
        decoder: str = DEFAULT_DECODER,
        observer: Observer | None = None,
    ):
        """
        Args:
            class_names: in label order (default: those of VOC or COCO where they are as many, or else '1', '2', ...).
            threshold: detections score more than this (default: `nms.score_threshold`).
            nms: the settings of non-maximum suppression (default: the reference's, with a threshold of 0.01).
            model, preset, device, backend, precision, batch_size, workers, decoder, observer: see `Predictor`.
        """
        super().__init__(
            model, preset, device, backend, precision=precision, batch_size=batch_size, workers=workers,
            decoder=decoder, observer=observer,
        )  # fmt: skip
        self.class_names = known_class_names(class_names, self.config.num_classes, KNOWN_CLASSES.values())
        nms = nms or NMSConfig()
        self.nms = nms if threshold is None else dataclasses.replace(nms, score_threshold=threshold)
        self.anchors = ssd300_anchors(self.config.anchor_scales, self.device)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        backend: str = "torch",
        *,
        threshold: float | None = None,
        coefficients: str | None = None,
        class_names: Sequence[str] | None = None,
        nms: NMSConfig | None = None,
        precision: str = "float32",
        batch_size: int = 8,
        workers: int | None = None,
        decoder: str = DEFAULT_DECODER,
        observer: Observer | None = None,
    ) -> Detector:
        """The detector of one weights file.

        Args:
            path: a safetensors file of `save_weights`, the converter or a training run; network, classes and preset are
                its own.
            coefficients: 'native' or 'reencode', in place of the file's own.
            class_names: in place of the file's own.
            device, backend, precision, batch_size, workers, decoder, observer: see `Predictor`.
            threshold, nms: see `Detector`.

        Raises:
            CheckpointError: the file cannot be used.  ModelError: an argument is impossible.
            BackendUnavailable: the backend cannot run here.
        """
        model = load_model(path)
        return cls(
            model, model.info.preparation(coefficients), device, backend,
            class_names=class_names or model.info.class_names, threshold=threshold, nms=nms, precision=precision,
            batch_size=batch_size, workers=workers, decoder=decoder, observer=observer,
        )  # fmt: skip

    def _postprocess(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[dict[str, Tensor]]:
        return _to_cpu(detect(*outputs, self.anchors, image_sizes, self.nms))


def known_class_names(names: Sequence[str] | None, num_classes: int, known: Iterable[Sequence[str]] = ()) -> list[str]:
    """`names`, or the first of `known` that has as many, or the numbers '1', '2', ..."""
    fitting = (list(candidate) for candidate in known if len(candidate) == num_classes)
    return list(names) if names else next(fitting, [str(k) for k in range(1, num_classes + 1)])


def _to_cpu(found: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """One transfer per key rather than one per image and key."""
    if not found or found[0]["scores"].device.type == "cpu":
        return found
    counts = [len(item["scores"]) for item in found]
    columns = {key: torch.cat([item[key] for item in found]).cpu().split(counts) for key in found[0]}
    return [{key: column[i] for key, column in columns.items()} for i in range(len(found))]
