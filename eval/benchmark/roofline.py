"""How close a network comes to the machine's own convolution speed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.models.config import ModelConfig


@dataclass(frozen=True)
class ConvolutionWork:
    """Multiply-adds per image, of all convolutions and linear layers and of the largest 3x3 convolution."""

    total: int
    largest: int
    name: str  # of that convolution
    input_shape: tuple[int, int, int]  # channels, rows, columns that it is given


def count_multiply_adds(model: nn.Module) -> ConvolutionWork:
    """Counts on the meta device: no arithmetic, no memory."""
    rows: list[tuple[int, str, nn.Module, tuple[int, ...]]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            positions = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
            # Each output value (a transposed convolution: input value) takes part in so many products:
            each = module.weight[0].numel()
            rows.append((positions.numel() * each, name, module, tuple(inputs[0].shape[1:])))

        return hook

    twin = copy.deepcopy(model).to("meta")
    for name, module in twin.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(note(name))
    with torch.no_grad():
        twin(*(torch.empty(1, *shape, device="meta") for shape in model.config.input_shapes().values()))
    threes = [row for row in rows if isinstance(row[2], nn.Conv2d) and row[2].kernel_size == (3, 3)]
    if not threes:
        raise ModelError(f"{model.config.name}: has no 3x3 convolution to compare with")
    largest = max(threes, key=lambda row: row[0])
    return ConvolutionWork(sum(row[0] for row in rows), largest[0], largest[1], largest[3])


@dataclass(frozen=True)
class _ConvConfig:
    """As much of a ModelConfig as backends ask for."""

    shape: tuple[int, int, int]
    name: str = "convolution"
    task: str = "classifier"
    is_dct: bool = False

    def input_shapes(self) -> dict[str, tuple[int, int, int]]:
        return {"x": self.shape}


class LargestConvolution(nn.Module):
    """A network's largest 3x3 convolution alone, as a network that backends build; `work` says what it stands for."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.work = count_multiply_adds(model)
        self.convolution = copy.deepcopy(model.get_submodule(self.work.name))
        self.config: ModelConfig | _ConvConfig = _ConvConfig(self.work.input_shape)
        self.eval()

    def efficiency(self, network_seconds: float, convolution_seconds: float) -> float:
        """The time that the convolution predicts for all the network's multiply-adds, over the network's time."""
        return convolution_seconds * self.work.total / self.work.largest / network_seconds

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)
