"""What is learnt: the loss of a batch and the figures of an evaluation, of detectors and of classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data.dataset import batch_loader
from ..detection import NMSConfig, detect, ssd300_anchors
from ..detection.loss import multibox_loss
from ..detection.matcher import Targets, match_anchors
from ..errors import JpegDeepError
from ..evaluation.imagenet import evaluate_imagenet
from ..evaluation.voc import evaluate_voc
from ..models import ModelConfig
from ..presets import get_preset
from ..utils.distributed import agreed, gathered_objects, rank, world_size
from .augmentation import AugmentationConfig
from .config import TrainingConfig
from .datasets import TrainingData
from .samples import ClassificationSamples, DetectionSamples, Reported, TrainingBatch, prepare_training_inputs

LARGER_IS_BETTER = {"mAP", "accuracy"}  # of the figures that can be monitored
Network = Callable[..., Any]


class Task(ABC):
    """`config` and `data` made into batches, losses and figures."""

    def __init__(self, config: TrainingConfig, data: TrainingData, network: ModelConfig, device: torch.device):
        self.config, self.data, self.network, self.device = config, data, network, device
        self.way = config.data.way
        # What training makes of augmented pixels on the device, evaluation takes from the files as a user will.
        self.evaluation_way = "reencode" if network.is_dct and self.way == "pixels" else self.way
        coefficients = ("dct" if self.way == "dct" else "reencode") if network.is_dct else None
        self.preset = get_preset(config.data.preset, coefficients)

    def training_samples(self) -> Dataset:
        return self._samples(self.data.train, self.way, self.config.augmentation)

    @abstractmethod
    def _samples(self, part: Any, way: str, augmentation: AugmentationConfig) -> Dataset:
        """`part` of the data, which is its `train` or `evaluate`, as samples."""

    @abstractmethod
    def losses(self, model: Network, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """(what to differentiate, parts whose sums over all processes are to be reported; 'loss' is one of them)."""

    @abstractmethod
    def evaluate(self, model: nn.Module, progress: Callable[[int], None]) -> dict[str, float]:
        """Figures of `model`, which is in eval mode, on the images to evaluate; the same in every process.

        JpegError, DatasetError: an image cannot be used; where that was another process's, FailedElsewhere.
        """

    def answers(self, model: Network, batch: TrainingBatch) -> Any:
        """What `model` makes of a batch of the training samples."""
        return model(*self._inputs(batch, self.way))

    def _inputs(self, batch: TrainingBatch, way: str) -> tuple[Tensor, ...]:
        return prepare_training_inputs(batch.inputs, self.network, self.preset, way, self.device)

    def _evaluation_batches(self, samples: Dataset, progress: Callable[[int], None]) -> Iterator[TrainingBatch]:
        """This process's share of the images, in order.  JpegError, DatasetError."""
        keys = [(index, 0) for index in range(rank(), len(samples), world_size())]
        size, workers = self.config.run.batch_size, self.config.data.workers
        batches = [keys[i : i + size] for i in range(0, len(keys), size)]
        for batch in batch_loader(Reported(samples), batches, workers, self.device):
            if isinstance(batch, JpegDeepError):
                raise batch
            yield batch
            progress(len(batch.names))


class DetectionTask(Task):
    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        scales = self.network.anchor_scales
        self.anchors = ssd300_anchors(scales, self.device)
        self.precise_anchors = ssd300_anchors(scales, self.device, torch.float64)

    def _samples(self, images: Any, way: str, augmentation: AugmentationConfig) -> Dataset:
        return DetectionSamples(images, self.network, self.preset, way=way, augmentation=augmentation)

    def losses(self, model: Network, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._loss(self.answers(model, batch), batch, together=True)
        class_loss, box_loss = loss.class_per_image.detach().sum(), loss.box_per_image.detach().sum()
        return loss.total, {"loss": class_loss + box_loss, "class_loss": class_loss, "box_loss": box_loss}

    def _loss(self, outputs: tuple[Tensor, Tensor], batch: TrainingBatch, together: bool):
        return multibox_loss(*outputs, self.targets(batch), self.anchors, self.config.loss, together=together)

    def targets(self, batch: TrainingBatch) -> Targets:
        """What the network is to answer; matched in float64, as the reference."""
        settings = self.config.loss
        boxes, labels = batch.boxes.to(self.device), batch.labels.to(self.device)
        return match_anchors(boxes, labels, self.precise_anchors, settings.positive_iou, settings.negative_iou)

    def evaluate(self, model: nn.Module, progress: Callable[[int], None]) -> dict[str, float]:
        images = self.data.evaluate
        samples = self._samples(images, self.evaluation_way, AugmentationConfig.none())
        found: list[tuple[int, dict[str, np.ndarray]]] = []
        loss_sum, positives = 0.0, 0
        with agreed():
            for batch in self._evaluation_batches(samples, progress):
                outputs = model(*self._inputs(batch, self.evaluation_way))
                loss = self._loss(outputs, batch, together=False)
                loss_sum += float(loss.total) * max(1, int(loss.positives))
                positives += int(loss.positives)
                indices = [index for index, _ in batch.keys]
                sizes = torch.tensor([(images[i].height_px, images[i].width_px) for i in indices])
                answers = detect(*outputs, self.anchors, sizes, NMSConfig())
                found += [(i, {k: v.cpu().numpy() for k, v in a.items()}) for i, a in zip(indices, answers)]
        shares = gathered_objects((found, loss_sum, positives))
        in_order = [answer for _, answer in sorted((f for share in shares for f in share[0]), key=lambda f: f[0])]
        result = evaluate_voc(images, in_order, self.data.class_names)
        figures = {"mAP": result.mean["area"], "mAP_11_points": result.mean["11_points"]}
        figures["validation_loss"] = sum(s[1] for s in shares) / max(1, sum(s[2] for s in shares))
        return figures | {f"AP/{name}": ap for name, ap in zip(result.class_names, result.ap["area"])}


class ClassificationTask(Task):
    def _samples(self, folders: Any, way: str, augmentation: AugmentationConfig) -> Dataset:
        return ClassificationSamples(
            folders.paths, folders.labels, self.network, self.preset, way=way, augmentation=augmentation
        )

    def losses(self, model: Network, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        logits, labels = self.answers(model, batch).float(), batch.labels.to(self.device)
        loss = F.cross_entropy(logits, labels)
        hits = (logits.detach().argmax(dim=1) == labels).float().mean()
        return loss, {"loss": loss.detach() / world_size(), "training_accuracy": hits / world_size()}

    def evaluate(self, model: nn.Module, progress: Callable[[int], None]) -> dict[str, float]:
        folders = self.data.evaluate
        samples = self._samples(folders, self.evaluation_way, AugmentationConfig.none())
        rows: list[tuple[np.ndarray, np.ndarray, list[int]]] = []
        loss_sum = 0.0
        with agreed():
            for batch in self._evaluation_batches(samples, progress):
                logits, labels = model(*self._inputs(batch, self.evaluation_way)).float(), batch.labels.to(self.device)
                loss_sum += float(F.cross_entropy(logits, labels, reduction="sum"))
                best = logits.softmax(dim=1).topk(min(5, logits.shape[1]))
                rows.append((best.indices.cpu().numpy(), best.values.cpu().numpy(), labels.cpu().tolist()))
        shares = gathered_objects((rows, loss_sum))
        rows = [row for share in shares for row in share[0]]
        predictions, probabilities = (np.concatenate([row[k] for row in rows]) for k in (0, 1))
        labels = [label for row in rows for label in row[2]]
        result = evaluate_imagenet(predictions, probabilities, labels)
        loss = sum(share[1] for share in shares) / len(labels)
        return {"accuracy": result.top1, "top5_accuracy": result.top5, "validation_loss": loss}


TASKS = {"detector": DetectionTask, "classifier": ClassificationTask}
