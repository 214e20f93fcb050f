"""`torch`: the network as PyTorch runs it, operator by operator."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import Network
from .base import PRECISIONS, Backend, BackendInfo, Runner, as_tuple, on_device, require_device
from .packing import packed


class EagerBackend(Backend):
    """Nothing is compiled: what all other backends are measured against.

    In float32 on a CPU the weights of convolutions are laid out for oneDNN once (`packing`).
    """

    info = BackendInfo(
        name="torch",
        summary="PyTorch, eager",
        # float16 on a CPU: almost none has the instructions, and PyTorch's fallback is many times slower
        precisions={"cpu": ("float32", "bfloat16"), "cuda": ("float32", "float16", "bfloat16")},
        dynamic_batch=True,
    )

    def require(self, device: torch.device | str = "cpu") -> None:
        require_device("torch", device)

    def _build(self, model: Network, device: torch.device, precision: str, batch_sizes: tuple[int, ...]) -> Runner:
        ready = packed(on_device(model, device, PRECISIONS[precision]))

        @torch.inference_mode()
        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            return as_tuple(ready(*inputs))

        return Runner(run, self.info, device, precision, batch_sizes)
