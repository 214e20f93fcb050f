"""Convolutions whose weights lie in oneDNN's order from the first call on."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..models.layers import SameConv2d

# Else PyTorch brings the weights into that order at every call.  End to end on a CPU, against no packing at all: 1.13
# times the speed for ssd300_vgg16_dct, whose weights are large, at a batch of 1; 0.93 (batch 1) and 0.95 (batch 8) for
# ssd300_resnet50_lcrfa of width 0.125, where all are small and the checks in `forward` cost more than they save.
LEAST_WEIGHTS = 2**19


class PackedConv2d(nn.Module):
    """A float32 convolution on a CPU that keeps its weights in oneDNN's order.

    The result is PyTorch's own but for rounding: oneDNN may choose another kernel.  Weights that have changed since are
    packed again.  The operators are those of PyTorch's own compiler.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        self._packed: tuple[object, Tensor] | None = None  # which state of the weights, and the packed weights

    def forward(self, x: Tensor) -> Tensor:
        conv, ops = self.conv, torch.ops.mkldnn
        # Inputs in another order make other convolutions of it, and a gradient needs the weights themselves.
        if (
            torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or not torch.backends.mkldnn.enabled
            or not x.is_contiguous(memory_format=torch.channels_last)
        ):
            return conv(x)
        weight = conv.weight
        state = weight.data_ptr(), None if weight.is_inference() else weight._version
        numbers = (conv.padding, conv.stride, conv.dilation, conv.groups)
        if self._packed is None or self._packed[0] != state:
            # In the order for inputs of this size; oneDNN reorders them again where another size wants another.
            self._packed = state, ops._reorder_convolution_weight(weight.detach(), *numbers, list(x.shape))
        return ops._convolution_pointwise(x, self._packed[1], conv.bias, *numbers, "none", [], "")

    def __getstate__(self) -> dict[str, object]:
        """Without the packed weights, which can be neither copied nor pickled."""
        return {**self.__dict__, "_packed": None}


def _is_packable(layer: nn.Module) -> bool:
    """Whether `layer` is nothing but a large float32 convolution with zeros around its input, on a CPU."""
    return (
        (type(layer) is nn.Conv2d or (type(layer) is SameConv2d and not layer.extra))
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
        and layer.weight.numel() >= LEAST_WEIGHTS
    )


def packed(model: nn.Module) -> nn.Module:
    """A copy of `model` that shares its parameters, its large convolutions packed; `model` where none can be.

    Packed weights take their memory a second time.
    """
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return model
    chosen = [name for name, layer in model.named_modules() if _is_packable(layer)]
    if not chosen:
        return model
    result = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
    for name in chosen:
        parent, _, last = name.rpartition(".")
        layer = result.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)  # as `_is_packable` found
        setattr(result.get_submodule(parent), last, PackedConv2d(layer))
    return result
