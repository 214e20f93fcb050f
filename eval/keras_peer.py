"""The Keras network that a checkpoint's own `model_config` describes, timed beside ours: needs TensorFlow."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
import torch

from eval.benchmark.candidates import BenchmarkCase, Run, timed
from jpegdeep_torch.data.dataset import Batch
from jpegdeep_torch.detection import NMSConfig
from jpegdeep_torch.errors import CheckpointError, JpegDeepError
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.keras.identify import best_match
from jpegdeep_torch.keras.names import SSD_KERAS
from jpegdeep_torch.keras.reader import open_keras
from jpegdeep_torch.keras.twin import build_twin, has_network, import_keras, load_twin_weights
from jpegdeep_torch.models import MODELS, create_model
from jpegdeep_torch.presets import get_preset


class KerasTwin:
    """A checkpoint's network with its weights, compiled by TensorFlow, decoded and suppressed by TensorFlow's own NMS.

    End to end it is fed as the originals were: decoded, resized, for coefficients compressed again, and read; in the
    worker processes that ours are given.  It runs where TensorFlow puts it, with PyTorch's number of threads.
    """

    def __init__(self, checkpoint: str | os.PathLike[str], jpegs: Sequence[bytes]):
        """BackendUnavailable without TensorFlow; CheckpointError where the file does not describe a detector."""
        import_keras()
        import tensorflow as tf

        _same_threads(tf)
        with open_keras(checkpoint) as file:
            if not has_network(file.config):
                raise CheckpointError(f"{checkpoint}: a weights-only file does not describe its network: no Keras twin")
            found = best_match(file)
            self.config = MODELS[found.model]
            if self.config.task != "detector":
                raise CheckpointError(f"{checkpoint}: holds the classifier {found.model}, expected a detector")
            self.twin = build_twin(file.config, self.config.image_size)
            load_twin_weights(self.twin, file)
        self.classes, self.raw_pixels = found.num_classes, found.flavour == SSD_KERAS
        self.label = f"Keras twin of {found.model}"
        self.preset = get_preset("ssd_keras" if self.raw_pixels else "voc", "reencode")
        self.jpegs = list(jpegs)
        self._tf = tf
        self._network = tf.function(lambda inputs: self.twin(inputs, training=False))
        self._detect = tf.function(self._decoded)

    def reader(self, batch_size: int, workers: int = 0) -> Detector:
        """A Detector whose `read` and `prepare` feed this network too; its own network has few channels, and rests."""
        model = create_model(self.config.name, width=0.03)
        return Detector(model, self.preset, batch_size=batch_size, workers=workers)

    def inputs(self, reader: Detector, batch: Batch) -> list[np.ndarray]:
        """A Batch as Keras takes it: channels last, float32."""
        ours = batch.inputs if self.raw_pixels else reader.prepare(batch)
        return [np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy(), dtype=np.float32) for x in ours]

    def network(self, inputs: list[np.ndarray]):
        """(N, A, C + 1 + 12): scores, offsets, anchors, variances."""
        return self._network([self._tf.constant(x) for x in inputs] if len(inputs) > 1 else inputs[0])

    def detect(self, outputs) -> tuple[np.ndarray, ...]:
        """-> boxes (N, 200, 4) ymin, xmin, ymax, xmax as fractions, scores, classes, counts: TensorFlow's own."""
        return tuple(x.numpy() for x in self._detect(outputs))

    def _decoded(self, y):
        tf, nms = self._tf, NMSConfig()
        classes = self.classes + 1
        offsets, anchors, variances = (y[..., classes + i : classes + i + 4] for i in (0, 4, 8))
        centre = offsets[..., :2] * variances[..., :2] * anchors[..., 2:] + anchors[..., :2]
        half = tf.exp(offsets[..., 2:] * variances[..., 2:]) * anchors[..., 2:] / 2
        corners = tf.concat((centre - half, centre + half), -1)
        return tf.image.combined_non_max_suppression(
            tf.gather(corners, (1, 0, 3, 2), axis=-1)[:, :, None], y[..., 1:classes], nms.max_per_class, nms.max_total,
            nms.iou_threshold, nms.score_threshold, clip_boxes=False,
        )  # fmt: skip

    def stage(self, case: BenchmarkCase) -> Run | None:
        """See `Candidate`; coefficients are by 'reencode' only."""
        if case.coefficients is not None:
            return None
        reader = self.reader(case.batch_size, case.workers)
        batches = reader.read(itertools.cycle(self.jpegs))
        if case.stage == "e2e":
            return timed(case.batch_size, lambda: self._run(self.inputs(reader, next(batches)), nms=True))
        inputs = self.inputs(reader, next(batches))
        if not np.isfinite(self.network(inputs).numpy()).all():
            raise JpegDeepError(f"{self.label}: its outputs are not finite")
        return timed(case.batch_size, lambda: self._run(inputs, case.nms))

    def _run(self, inputs: list[np.ndarray], nms: bool) -> None:
        outputs = self.network(inputs)
        if nms:
            self.detect(outputs)
        else:
            outputs.numpy()  # waits for a GPU


def _same_threads(tf) -> None:
    """As many as PyTorch has; where TensorFlow has begun with others, that is an error, not a comparison."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        if tf.config.threading.get_intra_op_parallelism_threads() not in (0, torch.get_num_threads()):
            raise JpegDeepError("TensorFlow runs already, with another number of threads than PyTorch") from None
