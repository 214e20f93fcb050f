"""`openvino`: the network compiled by OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import BackendUnavailable
from ..models import Network
from .base import BackendInfo, Calibration, CpuLibraryBackend, Function, Runner, on_device, require_packages
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
    network: openvino.Model | str, batch_sizes: tuple[int, ...], threads: int | None = None, precision: str = "f32"
) -> openvino.CompiledModel:
    """Compiled for the CPU (in int8 where quantised): for latency where only single images will come.

    precision: 'f32', or 'bf16' for what of it OpenVINO computes in bfloat16.
    """
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY" if max(batch_sizes) == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,  # else it takes bfloat16 where the CPU has it, and answers differ
    }
    return openvino.Core().compile_model(network, "CPU", settings)


def has_bfloat16() -> bool:
    """Whether OpenVINO finds a processor that computes in bfloat16."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


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
        precisions={"cpu": ("float32", "bfloat16", "int8")},
        dynamic_batch=True,
        options=("calibration", "threads"),
    )

    def require(self, device: torch.device | str = "cpu") -> None:
        require_packages("openvino", "openvino", "openvino")

    def _build(
        self, model: Network, device: torch.device, precision: str, batch_sizes: tuple[int, ...],
        calibration: Calibration | None = None, threads: int | None = None,
    ) -> Runner:  # fmt: skip
        if precision != "bfloat16":
            return super()._build(model, device, precision, batch_sizes, calibration=calibration, threads=threads)
        if not has_bfloat16():
            raise BackendUnavailable(
                "backend openvino: bfloat16 needs a processor that has it (AVX512_BF16 or AMX), which this "
                "one has not; expected float32 or int8"
            )
        network = to_openvino(on_device(model, device, torch.float32))
        runner = self.runner(
            compiled_function(compile_openvino(network, batch_sizes, threads, "bf16")), precision, batch_sizes
        )
        runner.dtype = torch.float32  # of inputs and outputs; bfloat16 is inside
        return runner

    def _compile(
        self, model: Network, calibration: Calibration | None, batch_sizes: tuple[int, ...], threads: int | None
    ) -> Function:
        return compiled_function(compile_openvino(to_openvino(model, calibration), batch_sizes, threads))
