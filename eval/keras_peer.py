"""The Keras network that a checkpoint's own `model_config` describes, timed beside ours: needs TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from eval.benchmark.subjects import BenchmarkCase, Endless, Sample
from jpegdeep_torch.data import JpegDataset, JpegLoader, prepare_inputs
from jpegdeep_torch.detection import NMSConfig
from jpegdeep_torch.errors import CheckpointError, JpegDeepError
from jpegdeep_torch.keras.identify import best_match
from jpegdeep_torch.keras.names import SSD_KERAS
from jpegdeep_torch.keras.reader import open_keras
from jpegdeep_torch.keras.twin import build_twin, has_network, import_keras, load_twin_weights
from jpegdeep_torch.models import MODELS
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

    def loader(self, batch_size: int, workers: int) -> JpegLoader:
        """Batches of the JPEGs, over and over."""
        dataset = JpegDataset(self.jpegs, self.config, self.preset)
        return JpegLoader(dataset, batch_size, workers, sampler=Endless(len(dataset)))

    def inputs(self, batch_inputs: Sequence[Tensor]) -> list[np.ndarray]:
        """A Batch's `inputs` as Keras takes them: channels last, float32."""
        ours = batch_inputs if self.raw_pixels else prepare_inputs(batch_inputs, self.config, self.preset)
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

    def stage(self, case: BenchmarkCase) -> Callable[[], Sample] | None:
        """See `benchmark.subject.Timed`; coefficients come its own way only."""
        if case.coefficients is not None or (case.stage == "e2e" and not case.nms):
            return None
        if case.stage == "e2e":
            batches = iter(self.loader(case.batch_size, case.workers))
            return lambda: self._timed(lambda: self.inputs(next(batches).inputs), case)
        inputs = self.inputs(next(iter(self.loader(case.batch_size, 0))).inputs)
        if not np.isfinite(self.network(inputs).numpy()).all():
            raise JpegDeepError(f"{self.label}: its outputs are not finite")
        return lambda: self._timed(lambda: inputs, case)

    def _timed(self, inputs: Callable[[], list[np.ndarray]], case: BenchmarkCase) -> Sample:
        started = time.perf_counter()
        outputs = self.network(inputs())
        if case.nms:
            self.detect(outputs)
        else:
            outputs.numpy()  # waits for a GPU
        return Sample(case.batch_size, time.perf_counter() - started)


def _same_threads(tf) -> None:
    """As many as PyTorch has; where TensorFlow has begun with others, that is an error, not a comparison."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        if tf.config.threading.get_intra_op_parallelism_threads() not in (0, torch.get_num_threads()):
            raise JpegDeepError("TensorFlow runs already, with another number of threads than PyTorch") from None
