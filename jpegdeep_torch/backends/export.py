"""Networks as ExportedPrograms with a dynamic batch: what ONNX, OpenVINO and Torch-TensorRT start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..models import Network
from .base import example_inputs

MOST_BATCH = 1024  # upper end of the batch range of files that name none


def batch_shapes(model: Network, largest: int = MOST_BATCH) -> tuple[dict[int, torch.export.Dim], ...]:
    """The dynamic shapes of `model`'s inputs: ONE Dim, shared by all of them, from 1 to at least 2.

    Separate Dims would make an exporter add an equality guard, or refuse.
    """
    batch = torch.export.Dim("batch", min=1, max=max(2, largest))
    return tuple({0: batch} for _ in model.config.input_shapes())


def export_program(model: Network, example_batch: int = 2, largest: int = MOST_BATCH) -> ExportedProgram:
    """`model`, on its device and in its dtype, for any batch size from 1 to `largest`.

    The example's batch is at least 2, because torch.export takes a 1 for a constant.
    """
    weight = next(model.parameters())
    example = example_inputs(model, max(2, example_batch), weight.device, weight.dtype)
    with torch.no_grad():
        return torch.export.export(model, example, dynamic_shapes=batch_shapes(model, largest))


def as_feeds(names: Sequence[str], batches: Iterable[Sequence[Tensor]]) -> Iterator[dict[str, np.ndarray]]:
    """Batches of inputs -> {input's name: float32 array}, as quantisers take them for calibration."""
    for batch in batches:
        yield {name: x.to(torch.float32).contiguous().cpu().numpy() for name, x in zip(names, batch)}


def last_convolutions(
    outputs: Iterable[Any],
    name: Callable[[Any], str],
    is_convolution: Callable[[Any], bool],
    sources: Callable[[Any], Iterable[Any]],
) -> list[str]:
    """Names of the convolutions from which an output of a graph is reached without passing another convolution.

    They end in logits and offsets and are not quantised: a step of their scale would move boxes and scores directly.

    Args:
        outputs: the nodes that give the graph's outputs.
        name, is_convolution: of a node.
        sources: the nodes that give a node's inputs.
    """
    open_nodes, seen, found = list(outputs), set(), []
    while open_nodes:
        node = open_nodes.pop()
        if name(node) in seen:
            continue
        seen.add(name(node))
        if is_convolution(node):
            found.append(name(node))
        else:
            open_nodes.extend(sources(node))
    return found
