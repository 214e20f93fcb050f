"""What a run learns: the loss of a batch and the figures of an evaluation, of detectors and of classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..data.annotations import AnnotatedImage
from ..data.coco import coco_results
from ..data.dataset import Batch
from ..detection import anchor_boxes
from ..detection.loss import Loss, multibox_loss
from ..detection.matcher import Targets, match_anchors
from ..errors import DatasetError
from ..evaluation.coco import evaluate_coco
from ..evaluation.imagenet import evaluate_imagenet
from ..evaluation.voc import evaluate_voc
from ..inference.classifier import Classifier
from ..inference.detector import Detector
from ..inference.predictor import Predictor
from ..models import ModelConfig, Network
from ..presets import get_preset
from ..utils.distributed import collective_errors, gathered_objects, rank, world_size
from .config import TrainingConfig
from .datasets import TrainingData
from .samples import (
    ClassificationSamples,
    DetectionSamples,
    TrainingBatch,
    check_image_size,
    prepare_training_inputs,
    stack_targets,
    unaugmented_targets,
)

LARGER_IS_BETTER = {"mAP", "accuracy"}  # of the figures that can be monitored
Model = Callable[..., Any]
Figures = dict[str, float]


class Task(ABC):
    """`config` and `data` made into batches, losses and figures.

    Training reads augmented samples of its own.  Evaluation runs the steps of a Predictor, as users do: a network whose
    coefficients training makes of augmented pixels is evaluated on files by 'reencode'.
    """

    def __init__(self, config: TrainingConfig, data: TrainingData, network: ModelConfig, device: torch.device):
        self.config, self.data, self.network, self.device = config, data, network, device
        self.left_out: list[str] = []  # what was wrong with pictures that this process's evaluations left out
        coefficients = "native" if config.data.coefficients == "native" else "reencode"
        self.preset = get_preset(config.data.preset, coefficients if network.is_dct else None)

    @abstractmethod
    def training_samples(self) -> Dataset:
        """The training images, augmented."""

    def _sample_settings(self) -> dict[str, Any]:
        config = self.config
        return {
            "coefficients": config.data.coefficients, "augmentation": config.augmentation, "options": config.reading,
            "lenient": config.data.lenient,
        }  # fmt: skip

    @abstractmethod
    def losses(self, model: Model, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """(what to differentiate, parts whose sums over all processes are to be reported; 'loss' is one of them)."""

    @abstractmethod
    def evaluate(self, model: Network, progress: Callable[[int], None]) -> Figures:
        """Figures of `model` on the images to evaluate; the same in every process.

        progress: called with the number of images of each batch.

        JpegError, DatasetError: an image cannot be used; where that was another process's, FailedElsewhere.  A lenient
        run leaves it out.
        """

    def outputs(self, model: Model, batch: TrainingBatch) -> Any:
        """What `model` gives for a batch of the training samples."""
        coefficients = self.config.data.coefficients
        return model(*prepare_training_inputs(batch.inputs, self.network, self.preset, coefficients, self.device))

    def _predictor(self, kind: type[Predictor], model: Network) -> Any:
        run, workers = self.config.run, self.config.data.workers
        return kind(
            model, self.preset, self.device, batch_size=run.batch_size, workers=workers,
            read_options=self.config.reading,
        )  # fmt: skip

    def _predicted(
        self, predictor: Predictor, paths: list[Path], progress: Callable[[int], None]
    ) -> Iterator[tuple[list[int], Batch, tuple[Tensor, ...], list[Any]]]:
        """(the images' indices in `paths`, batch, outputs, values) of this process's share of the images, in order."""
        own = range(rank(), len(paths), world_size())
        for batch in predictor.read([paths[index] for index in own]):
            if batch.errors and not self.config.data.lenient:
                raise batch.errors[0][1]
            self.left_out += [str(error) for _, error in batch.errors]
            outputs = predictor.forward(predictor.prepare(batch))
            values = predictor.postprocess(outputs, batch.image_sizes)
            yield [own[index] for index in batch.indices], batch, outputs, values
            progress(len(batch))


class DetectionTask(Task):
    """The multibox loss, and the mAP: COCO's for COCO, VOC's for others."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.anchors = anchor_boxes(self.network, self.device)
        self.precise_anchors = anchor_boxes(self.network, self.device, torch.float64)

    def training_samples(self) -> Dataset:
        return DetectionSamples(self.data.train, self.network, self.preset, **self._sample_settings())

    def losses(self, model: Model, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._loss(self.outputs(model, batch), self.targets(batch), together=True)
        class_loss, box_loss = loss.class_per_image.detach().sum(), loss.box_per_image.detach().sum()
        return loss.total, {"loss": class_loss + box_loss, "class_loss": class_loss, "box_loss": box_loss}

    def _loss(self, outputs: tuple[Tensor, ...], targets: Targets, together: bool) -> Loss:
        class_logits, box_offsets = outputs
        return multibox_loss(class_logits, box_offsets, targets, self.anchors, self.config.loss, together=together)

    def targets(self, batch: TrainingBatch) -> Targets:
        """What the network is to give for a batch; matched in float64, as the reference."""
        return self._targets(batch.boxes, batch.labels)

    def _targets(self, boxes: Tensor, labels: Tensor) -> Targets:
        settings = self.config.loss
        boxes, labels = boxes.to(self.device), labels.to(self.device)
        return match_anchors(boxes, labels, self.precise_anchors, settings.positive_iou, settings.negative_iou)

    def evaluate(self, model: Network, progress: Callable[[int], None]) -> Figures:
        images = self.data.evaluate
        detector = self._predictor(Detector, model)
        found: list[tuple[int, dict[str, np.ndarray]]] = []
        loss_sum, positives = 0.0, 0
        with collective_errors():
            for indices, batch, outputs, values in self._predicted(detector, [i.path for i in images], progress):
                own = [images[index] for index in indices]
                for image, size in zip(own, batch.image_sizes.tolist()):
                    check_image_size(image, *size)
                boxes, labels = stack_targets([unaugmented_targets(image, self.network.image_size) for image in own])
                loss = self._loss(outputs, self._targets(boxes, labels), together=False)
                loss_sum += float(loss.total) * max(1, int(loss.positives))
                positives += int(loss.positives)
                found += [(i, {k: v.numpy() for k, v in value.items()}) for i, value in zip(indices, values)]
        shares = gathered_objects((found, loss_sum, positives))
        in_order = _sorted_by_index(share[0] for share in shares)
        own, values = [images[index] for index, _ in in_order], [value for _, value in in_order]
        figures = (self._coco_figures if self.data.coco else self._voc_figures)(own, values)
        return figures | {"validation_loss": sum(s[1] for s in shares) / max(1, sum(s[2] for s in shares))}

    def _voc_figures(self, images: list[AnnotatedImage], found: list[Any]) -> Figures:
        result = evaluate_voc(images, found, self.data.class_names)
        figures = {"mAP": result.mean["area"], "mAP_11_points": result.mean["11_points"]}
        return figures | {f"AP/{name}": ap for name, ap in zip(result.class_names, result.ap["area"])}

    def _coco_figures(self, images: list[AnnotatedImage], found: list[Any]) -> Figures:
        """As the command `jpegdeep eval coco` has them; 'mAP' is COCO's AP."""
        coco = self.data.coco
        assert coco is not None
        id_of = dict(zip((image.path for image in coco.images), coco.image_ids))
        image_ids = [id_of[image.path] for image in images]
        rows = coco_results(found, image_ids, coco.category_ids)
        result = evaluate_coco(coco.annotations, rows, coco.category_ids, coco.class_names, image_ids)
        return {"mAP": result.figures["AP"], **result.figures, **{f"AP/{c.name}": c.ap for c in result.classes}}


class ClassificationTask(Task):
    """Cross entropy, and top-1 and top-5 accuracy."""

    def training_samples(self) -> Dataset:
        return ClassificationSamples(
            self.data.train.paths, self.data.train.labels, self.network, self.preset, **self._sample_settings()
        )

    def losses(self, model: Model, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        logits, labels = self.outputs(model, batch).float(), batch.labels.to(self.device)
        loss = F.cross_entropy(logits, labels)
        hits = (logits.detach().argmax(dim=1) == labels).float().mean()
        return loss, {"loss": loss.detach() / world_size(), "training_accuracy": hits / world_size()}

    def evaluate(self, model: Network, progress: Callable[[int], None]) -> Figures:
        folders = self.data.evaluate
        classifier = self._predictor(Classifier, model)
        rows: list[tuple[int, np.ndarray, np.ndarray]] = []
        loss_sum = 0.0
        with collective_errors():
            for indices, _, outputs, values in self._predicted(classifier, folders.paths, progress):
                labels = torch.tensor([folders.labels[index] for index in indices], device=self.device)
                loss_sum += float(F.cross_entropy(outputs[0].float(), labels, reduction="sum"))
                rows += [(i, v["classes"].numpy(), v["probabilities"].numpy()) for i, v in zip(indices, values)]
        shares = gathered_objects((rows, loss_sum))
        rows = _sorted_by_index(share[0] for share in shares)
        indices, predictions, probabilities = zip(*rows)
        result = evaluate_imagenet(np.stack(predictions), np.stack(probabilities), [folders.labels[i] for i in indices])
        loss = sum(share[1] for share in shares) / len(rows)
        return {"accuracy": result.top1, "top5_accuracy": result.top5, "validation_loss": loss}


def _sorted_by_index(shares: Iterable[list[Any]]) -> list[Any]:
    """The processes' rows (index, ...) in the images' order.  Raises DatasetError where there are none."""
    rows = sorted((row for share in shares for row in share), key=lambda row: row[0])
    if not rows:
        raise DatasetError("no picture to evaluate on can be read")
    return rows


TASKS = {"detector": DetectionTask, "classifier": ClassificationTask}
