"""`openvino`: the network compiled by OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models import Network
from .base import BackendInfo, Calibration, CpuLibraryBackend, Function, require_packages
from .export import as_feeds, export_program, last_convolutions
from .onnx_export import CLASSIFIER_OUTPUTS, DETECTOR_OUTPUTS, quietly

if TYPE_CHECKING:
    import openvino


def to_openvino(model: Network, calibration: Calibration | None = None, images: int = 300) -> openvino.Model:
    """`model`, float32 on the CPU, as an OpenVINO network for any batch size.

    With `calibration`, batches of inputs, quantised to int8 by NNCF on the first `images` batches.  Inputs and outputs
    are named as in the ONNX file.
    """
    import openvino

    config = model.config
    with quietly():
        network = openvino.convert_model(export_program(model))
    shapes = config.input_shapes()
    for port, name in zip(network.inputs, shapes):
        port.get_tensor().set_names({name})
    # The conversion leaves every dimension open; only the batch is.
    network.reshape({name: [-1, *shape] for name, shape in shapes.items()})
    outputs = DETECTOR_OUTPUTS if config.task == "detector" else CLASSIFIER_OUTPUTS
    for port, name in zip(network.outputs, outputs):
        port.get_tensor().set_names({name})
    return network if calibration is None else _quantized(network, calibration, images)


def _quantized(network: openvino.Model, calibration: Calibration, images: int) -> openvino.Model:
    require_packages("openvino", "openvino", "nncf")
    heads = last_convolutions(
        [port.get_node() for port in network.outputs],
        lambda node: node.get_friendly_name(),
        lambda node: node.get_type_name() == "Convolution",
        lambda node: [value.get_source_output().get_node() for value in node.inputs()],
    )
    with quietly():
        import nncf

        data = nncf.Dataset(list(as_feeds([port.get_any_name() for port in network.inputs], calibration)))
        return nncf.quantize(network, data, subset_size=images, ignored_scope=nncf.IgnoredScope(names=heads))


def compile_openvino(
    network: openvino.Model | str, batch_sizes: tuple[int, ...], threads: int | None = None
) -> openvino.CompiledModel:
    """Compiled for the CPU in float32 (or int8 where quantised): for latency where only single images will come."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY" if max(batch_sizes) == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # else it takes bfloat16 where the CPU has it, and answers differ
    }
    return openvino.Core().compile_model(network, "CPU", settings)


def compiled_function(compiled: openvino.CompiledModel) -> Function:
    """Contiguous float32 tensors -> the network's outputs.

    With the throughput hint OpenVINO works in several streams of few threads: a batch is cut into one part a stream.
    """
    streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    requests = [compiled.create_infer_request() for _ in range(streams)]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        count = inputs[0].shape[0]
        parts = min(streams, count)
        arrays = [x.numpy() for x in inputs]
        busy = requests[:parts]
        for i, request in enumerate(busy):
            part = slice(i * count // parts, (i + 1) * count // parts)
            request.start_async([x[part] for x in arrays], share_inputs=True)
        for request in busy:
            request.wait()
        results = [
            [torch.from_numpy(request.get_output_tensor(k).data) for request in busy]
            for k in range(len(compiled.outputs))
        ]
        return tuple(torch.cat(ys) for ys in results)  # a copy: the requests' memory is written again next time

    return run


class OpenVinoBackend(CpuLibraryBackend):
    """Batch size 1 alone is compiled for latency, all others for throughput."""

    info = BackendInfo(
        name="openvino",
        summary="OpenVINO",
        precisions={"cpu": ("float32", "int8")},
        dynamic_batch=True,
        options=("calibration", "threads"),
    )

    def require(self, device: torch.device | str = "cpu") -> None:
        require_packages("openvino", "openvino", "openvino")

    def _compile(
        self, model: Network, calibration: Calibration | None, batch_sizes: tuple[int, ...], threads: int | None
    ) -> Function:
        return compiled_function(compile_openvino(to_openvino(model, calibration), batch_sizes, threads))
