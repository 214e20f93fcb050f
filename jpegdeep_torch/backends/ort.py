"""`onnxruntime`: the network as ONNX, run by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models import Network
from .base import BackendInfo, Calibration, CpuLibraryBackend, Function, require_packages
from .onnx_export import quantize_onnx, to_onnx

if TYPE_CHECKING:
    import onnxruntime


def open_session(model: str | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU from a file's name or an ONNX file's bytes; as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    # Else its idle threads spin for a while after each call, on cores that the JPEG readers and NMS need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors; its warnings are about its own optimisations
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def session_function(session: onnxruntime.InferenceSession) -> Function:
    """Contiguous float32 tensors in the session's order -> its outputs; memory is shared, not copied."""
    names = [value.name for value in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = session.run(None, {name: x.numpy() for name, x in zip(names, inputs)})
        return tuple(torch.from_numpy(y) for y in outputs)

    return run


class OnnxRuntimeBackend(CpuLibraryBackend):
    """Latency and throughput ask for the same here: one network at a time on all threads."""

    info = BackendInfo(
        name="onnxruntime",
        summary="ONNX Runtime",
        precisions={"cpu": ("float32", "int8")},
        dynamic_batch=True,
        options=("calibration", "threads"),
    )

    def require(self, device: torch.device | str = "cpu") -> None:
        require_packages("onnxruntime", "onnx", "onnxruntime", "onnx", "onnxscript")

    def _compile(
        self, model: Network, calibration: Calibration | None, batch_sizes: tuple[int, ...], threads: int | None
    ) -> Function:
        proto = to_onnx(model)
        if calibration is not None:
            proto = quantize_onnx(proto, calibration)
        return session_function(open_session(proto.SerializeToString(), threads))
