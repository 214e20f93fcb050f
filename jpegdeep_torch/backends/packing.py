"""Convolutions whose weights lie as oneDNN wants them, once and for all."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class PackedConv2d(nn.Module):
    """A float32 convolution on a CPU that brings its weights into oneDNN's order at the first call, not at every one.

    The result is PyTorch's own but for rounding: oneDNN may choose another kernel, or PyTorch would not have asked it.
    What is saved is an eighth of the time of a DCT network at a batch of 1.
    The operators are those of PyTorch's own compiler; where they are missing, `packed` makes nothing.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        self._packed: tuple[object, Tensor] | None = None  # what of the weights, and the weights

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
        """Without what can be made again, which can be neither copied nor pickled."""
        return {**self.__dict__, "_packed": None}


def is_packable(layer: nn.Module) -> bool:
    """Whether `layer` does nothing but a float32 convolution with zeros around its input, on a CPU."""
    from ..models.layers import SameConv2d

    return (
        (type(layer) is nn.Conv2d or (type(layer) is SameConv2d and not layer.extra))
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
    )


def packed(model: nn.Module) -> nn.Module:
    """`model` with its convolutions packed: a copy that shares its parameters, or itself where that cannot be.

    The copy follows the model: weights that were changed are packed again.  Packed, the convolutions' weights take
    their memory a second time.
    """
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    result = copy.deepcopy(model, shared)
    for parent in list(result.modules()):
        for name, layer in list(parent.named_children()):
            if is_packable(layer):
                setattr(parent, name, PackedConv2d(layer))
    return result
