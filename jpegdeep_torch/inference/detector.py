"""The whole path, from JPEGs to boxes, as one object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.classes import KNOWN_CLASSES
from ..detection import NMSConfig, anchor_boxes, detect
from ..errors import ModelError
from ..jpeg import ReadOptions
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixels import DEFAULT_DECODER
from ..models import Network
from ..presets import Preset
from ..pretrained import load_model
from .predictor import Observer, Predictor


class Detector(Predictor):
    """Finds objects in JPEG files.

    detector = Detector.load("ssd300_vgg16_dct.safetensors", threshold=0.5)
    for found in detector.predict(["a.jpg", "b.jpg"]):
        print(found["boxes"], found["scores"], found["labels"])

    `predict`, and `stream` as `Prediction.value`, give for each image `{"boxes": (K, 4) float32, "scores": (K,)
    float32, "labels": (K,) int64}` on the CPU, the best score first.  Boxes are xmin, ymin, xmax, ymax in pixels of the
    original image, the right way up (`ReadOptions`).  Labels count from 1: `class_names[label - 1]` is the class.
    """

    task = "detector"

    def __init__(
        self,
        model: Network,
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
        read_options: ReadOptions = DEFAULT_OPTIONS,
        observer: Observer | None = None,
    ):
        """
        Args:
            class_names: in label order (default: those of VOC or COCO where they are as many, or else '1', '2', ...).
            threshold: detections score more than this (default: `nms.score_threshold`).
            nms: the settings of non-maximum suppression (default: the reference's, with a threshold of 0.01).
            model, preset, device, backend, precision, batch_size, workers, decoder, read_options, observer: see
                `Predictor`.

        Raises:
            ModelError: an argument is impossible.
            BackendUnavailable: the backend cannot run here.
        """
        super().__init__(
            model, preset, device, backend, precision=precision, batch_size=batch_size, workers=workers,
            decoder=decoder, read_options=read_options, observer=observer,
        )  # fmt: skip
        count = self.config.num_classes
        if class_names and len(class_names) != count:
            raise ModelError(f"class_names has {len(class_names)} names, expected the network's {count}")
        known = (names for names in KNOWN_CLASSES.values() if len(names) == count)
        self.class_names = list(class_names or next(known, map(str, range(1, count + 1))))
        nms = nms or NMSConfig()
        nms = dataclasses.replace(nms, cut_first=nms.cut_first or self.config.box_rules.cut_before_nms)
        self.nms = nms if threshold is None else dataclasses.replace(nms, score_threshold=threshold)
        self.anchors = anchor_boxes(self.config, self.device)

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
        read_options: ReadOptions = DEFAULT_OPTIONS,
        observer: Observer | None = None,
    ) -> Detector:
        """The detector of one weights file.

        Args:
            path: a safetensors file of `save_weights`, the converter or a training run, or the name of weights.  They
                say which network, classes and preset they are for.
            threshold, nms: see `Detector`.
            coefficients: 'native' or 'reencode', in place of the file's own.
            class_names: in place of the file's own.
            device, backend, precision, batch_size, workers, decoder, read_options, observer: see `Predictor`.

        Raises:
            CheckpointError: the file cannot be used.
            ModelError, BackendUnavailable: as of `Detector`.
        """
        model = load_model(path, task=cls.task)
        return cls(
            model, model.info.preparation(coefficients), device, backend,
            class_names=class_names or model.info.class_names, threshold=threshold, nms=nms, precision=precision,
            batch_size=batch_size, workers=workers, decoder=decoder, read_options=read_options, observer=observer,
        )  # fmt: skip

    def _postprocess(self, outputs: tuple[Tensor, ...], image_sizes: Tensor) -> list[dict[str, Tensor]]:
        class_logits, box_offsets = outputs
        return _to_cpu(detect(class_logits, box_offsets, self.anchors, image_sizes, self.nms))


def _to_cpu(found: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """One transfer per key rather than one per image and key."""
    if found[0]["scores"].device.type == "cpu":
        return found
    counts = [len(item["scores"]) for item in found]
    columns = {key: torch.cat([item[key] for item in found]).cpu().split(counts) for key in found[0]}
    return [{key: column[i] for key, column in columns.items()} for i in range(len(found))]
