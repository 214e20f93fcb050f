"""`compile`: torch.compile with inductor; on a CPU with freezing, which packs the weights for oneDNN once."""

from __future__ import annotations

import shutil
import types
from collections.abc import Callable

import torch
import torch._inductor.config
from torch import Tensor, nn

from ..errors import BackendUnavailable, ModelError
from ..models import Network
from .base import PRECISIONS, Backend, BackendInfo, Runner, as_tuple, example_inputs, on_device, require_device


class CompileBackend(Backend):
    """One compilation for each batch size asked for, done in `build`; other sizes are padded to the next of them."""

    info = BackendInfo(
        name="compile",
        summary="torch.compile (inductor; freezing on a CPU)",
        precisions={"cpu": ("float32", "bfloat16"), "cuda": ("float32", "float16", "bfloat16")},
        dynamic_batch=False,
        options=("mode",),
    )
    modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

    def require(self, device: torch.device | str = "cpu") -> None:
        require_device("compile", device)
        if torch.device(device).type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
            raise BackendUnavailable(
                "backend compile on a CPU needs a C++ compiler, and none of g++, clang++, c++ is on PATH: install one "
                "(Debian, Ubuntu: apt-get install g++)"
            )

    def _build(
        self,
        model: Network,
        device: torch.device,
        precision: str,
        batch_sizes: tuple[int, ...],
        mode: str = "default",
    ) -> Runner:
        """`mode` as of torch.compile: 'max-autotune' times candidate kernels on a GPU, for minutes."""
        if mode not in self.modes:
            raise ModelError(f"backend compile: unknown mode {mode!r}, expected one of {', '.join(self.modes)}")
        ready = on_device(model, device, PRECISIONS[precision])
        functions = {n: _compiled(ready, mode) for n in batch_sizes}
        for n, function in functions.items():
            example = example_inputs(model, n, device, PRECISIONS[precision])
            # Inductor looks at this setting while it compiles, that is, in the first call.
            with torch._inductor.config.patch(freezing=device.type == "cpu"):
                for _ in range(2 if device.type == "cpu" else 3):  # a CUDA graph is recorded in the second call
                    function(*example)
        return Runner(
            lambda *inputs: as_tuple(functions[inputs[0].shape[0]](*inputs)),
            self.info,
            device,
            precision,
            batch_sizes,
            buckets=batch_sizes,
        )


def _compiled(model: nn.Module, mode: str) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """A callable of its own for one batch size."""

    def forward(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return model(*inputs)

    # Dynamo counts recompilations by code object, and stops at eight: a copy of it for every network and batch size.
    own = types.FunctionType(forward.__code__.replace(), globals(), "forward", None, forward.__closure__)
    function = torch.compile(own, dynamic=False, fullgraph=True, mode=None if mode == "default" else mode)

    def call(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        # A caller's inference mode, or tensors made in it, would be another case to dynamo: it would compile again.
        with torch.inference_mode(False), torch.no_grad():
            return function(*(x.clone() if x.is_inference() else x for x in inputs))

    return call
