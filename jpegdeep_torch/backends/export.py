"""Networks as ExportedPrograms with a dynamic batch: what ONNX, OpenVINO and Torch-TensorRT start from."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import ExportedProgram

from .base import example_inputs

MOST_BATCH = 1024  # upper end of the batch range of files that name none


def batch_shapes(model: nn.Module, largest: int = MOST_BATCH) -> tuple[dict[int, torch.export.Dim], ...]:
    """The dynamic shapes of `model`'s inputs: ONE Dim, shared by all of them, from 1 to at least 2.

    Separate Dims would make an exporter add an equality guard, or refuse.
    """
    batch = torch.export.Dim("batch", min=1, max=max(2, largest))
    return tuple({0: batch} for _ in model.config.input_shapes())


def export_program(model: nn.Module, example_batch: int = 2, largest: int = MOST_BATCH) -> ExportedProgram:
    """`model`, on its device and in its dtype, for any batch size from 1 to `largest`.

    The example's batch is at least 2, because torch.export takes a 1 for a constant.
    """
    weight = next(model.parameters())
    example = example_inputs(model, max(2, example_batch), weight.device, weight.dtype)
    with torch.no_grad():
        return torch.export.export(model, example, dynamic_shapes=batch_shapes(model, largest))
