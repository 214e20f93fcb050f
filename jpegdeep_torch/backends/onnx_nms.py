"""Decoding and NMS as ONNX operators, for users who deploy without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..detection import NMSConfig
from ..detection.anchors import VARIANCES

if TYPE_CHECKING:
    import onnx


def add_nms(proto: onnx.ModelProto, anchors: np.ndarray, num_classes: int, config: NMSConfig) -> None:
    """Appends softmax, box decoding and the standard NonMaxSuppression to a detector, in place.

    The meaning is `detection.detect`'s, that is, TensorFlow's combined NMS: scores above the threshold, a box falls
    where its IoU with a better one of its class exceeds the threshold, then the best `max_total` of all classes.

    Args:
        proto: with outputs 'class_logits' (batch, A, C + 1) and 'box_offsets' (batch, A, 4); they are replaced.
        anchors: (A, 4) float32 cx, cy, w, h as fractions of the image.

    Outputs, K = `config.max_total`, best first:
        'boxes' (batch, K, 4) float32: xmin, ymin, xmax, ymax as fractions of the image, cut to 0..1; 0 for padding.
        'scores' (batch, K) float32: 0 for padding.
        'labels' (batch, K) int64, from 1; 0 for padding.
        'counts' (batch,) int64: how many of the K are detections.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    count = len(anchors)
    most = config.max_total
    constants = {
        "anchor_centres": anchors[:, :2],
        "anchor_sizes": anchors[:, 2:],
        "centre_scale": np.array(VARIANCES[:2], np.float32),
        "size_scale": np.array(VARIANCES[2:], np.float32),
        "half": np.array(0.5, np.float32),
        "zero": np.array(0.0, np.float32),
        "one": np.array(1.0, np.float32),
        "per_class": np.array([min(config.max_per_class, most)], np.int64),  # more of a class never reach the result
        "iou": np.array([config.iou_threshold], np.float32),
        "threshold": np.array([config.score_threshold], np.float32),
        "i0": np.array([0], np.int64),
        "i1": np.array([1], np.int64),
        "i2": np.array([2], np.int64),
        "i4": np.array([4], np.int64),
        "end": np.array([np.iinfo(np.int64).max], np.int64),
        "most": np.array([most], np.int64),
        "anchors_a_class": np.array(count, np.int64),
        "flat": np.array([0, num_classes * count], np.int64),
        "one_i": np.array(1, np.int64),
        "last": np.array([-1], np.int64),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), f"nms.{name}") for name, value in constants.items()
    )

    def op(kind: str, inputs: str, output: str, **attributes: object) -> None:
        """`inputs` and `output` are separated by blanks; a leading '.' stands for this function's own values."""
        names = [f"nms{name}" if name.startswith(".") else name for name in inputs.split()]
        results = [f"nms{name}" if name.startswith(".") else name for name in output.split()]
        graph.node.append(helper.make_node(kind, names, results, name=f"nms.{results[0]}", **attributes))

    # Boxes: (batch, A, 4).
    op("Slice", "box_offsets .i0 .i2 .last", ".centre_offsets")
    op("Slice", "box_offsets .i2 .i4 .last", ".size_offsets")
    op("Mul", ".centre_offsets .centre_scale", ".centre_scaled")
    op("Mul", ".centre_scaled .anchor_sizes", ".centre_moved")
    op("Add", ".centre_moved .anchor_centres", ".centre")
    op("Mul", ".size_offsets .size_scale", ".size_scaled")
    op("Exp", ".size_scaled", ".size_factor")
    op("Mul", ".size_factor .anchor_sizes", ".size")
    op("Mul", ".size .half", ".half_size")
    op("Sub", ".centre .half_size", ".low")
    op("Add", ".centre .half_size", ".high")
    # NonMaxSuppression wants y before x, but IoU does not mind which axis is which.
    op("Concat", ".low .high", ".corners_all" if config.cut_first else ".corners", axis=-1)
    if config.cut_first:
        op("Clip", ".corners_all .zero .one", ".corners")
    # Scores: (batch, C, A).
    op("Softmax", "class_logits", ".probabilities", axis=-1)
    op("Slice", ".probabilities .i1 .end .last", ".foreground")
    op("Transpose", ".foreground", ".by_class", perm=[0, 2, 1])
    op("NonMaxSuppression", ".corners .by_class .per_class .iou .threshold", ".chosen")  # (K', 3): image, class, anchor
    # Back to a dense (batch, C * A), where what fell is 0, and the best of it.
    op("GatherND", ".by_class .chosen", ".chosen_scores")
    op("Shape", ".by_class", ".shape")
    op("ConstantOfShape", ".shape", ".nothing")
    op("ScatterND", ".nothing .chosen .chosen_scores", ".kept")
    op("Reshape", ".kept .flat", ".kept_flat")
    op("TopK", ".kept_flat .most", "scores .places", axis=-1, largest=1, sorted=1)
    op("Div", ".places .anchors_a_class", ".classes")
    op("Mod", ".places .anchors_a_class", ".anchors")
    op("Greater", "scores .zero", ".real")
    op("Cast", ".real", ".real_i", to=TensorProto.INT64)
    op("Add", ".classes .one_i", ".labels_all")
    op("Mul", ".labels_all .real_i", "labels")
    op("ReduceSum", ".real_i .last", "counts", keepdims=0)
    op("Unsqueeze", ".anchors .last", ".anchors_1")
    op("GatherND", ".corners .anchors_1", ".boxes_all", batch_dims=1)
    op("Clip", ".boxes_all .zero .one", ".boxes_cut")
    op("Cast", ".real", ".real_f", to=TensorProto.FLOAT)
    op("Unsqueeze", ".real_f .last", ".real_1")
    op("Mul", ".boxes_cut .real_1", "boxes")
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    del graph.output[:]
    graph.output.extend(
        (
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batch, most, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, most]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, most]),
            helper.make_tensor_value_info("counts", TensorProto.INT64, [batch]),
        )
    )
