"""Networks as ONNX files: dynamic batch, optionally with decoding and NMS inside, optionally quantised to int8."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from ..models import Network
from .base import example_inputs, require_packages
from .export import MOST_BATCH, as_feeds, batch_shapes, last_convolutions

if TYPE_CHECKING:
    import onnx

DETECTOR_OUTPUTS = ("class_logits", "box_offsets")
CLASSIFIER_OUTPUTS = ("logits",)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Exporters and quantisers report their progress on stdout, in warnings and logs: not ours to print."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def to_onnx(model: Network) -> onnx.ModelProto:
    """`model`, float32, as ONNX (opset 20), for any batch size.

    Inputs are named as in `model.config.input_shapes()`, (batch, channels, rows, columns) float32.  Outputs are
    'class_logits' (batch, A, C + 1) and 'box_offsets' (batch, A, 4), or a classifier's 'logits'.
    """
    config = model.config
    require_packages("onnxruntime", "onnx", "onnx", "onnxscript")
    weight = next(model.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ModelError(f"{config.name}: is {weight.dtype} on {weight.device}, expected float32 on the CPU")
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            model,
            example_inputs(model, 2),
            dynamo=True,
            dynamic_shapes=batch_shapes(model, MOST_BATCH),
            input_names=list(config.input_shapes()),
            output_names=list(DETECTOR_OUTPUTS if config.task == "detector" else CLASSIFIER_OUTPUTS),
            opset_version=20,
            verbose=False,
        )
    assert program is not None  # only the older exporter gives None
    return program.model_proto


def quantize_onnx(proto: onnx.ModelProto, calibration: Iterable[Sequence[Tensor]]) -> onnx.ModelProto:
    """int8 by ONNX Runtime's static quantisation; `calibration` gives batches as the network takes them.

    Convolutions are quantised, weights to int8 per channel, activations to uint8 per tensor, but for
    `last_convolutions`.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [value.name for value in proto.graph.input]
    with tempfile.TemporaryDirectory() as folder, quietly():
        import onnx

        plain, prepared, result = (str(Path(folder) / name) for name in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(proto, plain)
        # Folds BatchNorm and names nodes; symbolic shape inference is for networks with control flow.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            result,
            _Calibration(names, calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_last_convolutions(onnx.load(prepared)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Without VNNI, two u8 x s8 products are added in 16 bits and may overflow: 7-bit weights never do.
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(result)


class _Calibration:
    """ONNX Runtime's CalibrationDataReader, by its protocol."""

    def __init__(self, names: Sequence[str], batches: Iterable[Sequence[Tensor]]):
        self._feeds = as_feeds(names, batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _last_convolutions(proto: onnx.ModelProto) -> list[str]:
    producer = {output: node for node in proto.graph.node for output in node.output}
    return last_convolutions(
        [producer[value.name] for value in proto.graph.output],
        lambda node: node.name,
        lambda node: node.op_type == "Conv",
        lambda node: [producer[value] for value in node.input if value in producer],
    )
