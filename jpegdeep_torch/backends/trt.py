"""`trt`: the network as one TensorRT engine, built by Torch-TensorRT (2.9 and newer; API as of 2.14)."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackendUnavailable, MissingExtra, ModelError
from ..models import Network
from .base import (
    PRECISIONS,
    Backend,
    BackendInfo,
    Calibration,
    Function,
    Runner,
    as_tuple,
    check_calibration,
    on_device,
    require_device,
)
from .export import export_program
from .onnx_export import quietly

Settings = Mapping[str, Any]  # further keywords of `torch_tensorrt.dynamo.compile`

OLDEST = (2, 9)
GPU = "an NVIDIA GPU that PyTorch sees"
INSTALL = "(Linux or Windows, x86-64, with an NVIDIA driver): pip install 'jpegdeep-torch[trt]'"


def missing_parts() -> list[str]:
    """What keeps TensorRT from running here, as far as can be told without importing anything."""
    missing = []
    if find_spec("torch_tensorrt") is None:
        missing.append("torch-tensorrt")
    elif _release(version("torch_tensorrt")) < OLDEST:
        missing.append(f"torch-tensorrt {OLDEST[0]}.{OLDEST[1]} or newer (here is {version('torch_tensorrt')})")
    if find_spec("tensorrt") is None and find_spec("tensorrt_rtx") is None:
        missing.append("TensorRT")
    if not torch.cuda.is_available():
        missing.append(GPU)
    return missing


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:2] if part.isdigit())


def import_torch_tensorrt() -> ModuleType:
    """The library; BackendUnavailable, with nothing printed, where it cannot be imported.

    Without TensorRT its import raises a bare Exception and prints; without a GPU, a RuntimeError.
    """
    try:
        with quietly():
            return importlib.import_module("torch_tensorrt")
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise MissingExtra(
            f"backend trt: torch_tensorrt cannot be imported ({type(error).__name__}: {reason}) {INSTALL}"
        ) from None


def known_keywords(torch_tensorrt: ModuleType) -> frozenset[str]:
    """The settings that the installed `dynamo.compile` names.

    It takes **kwargs besides, and drops what it does not know without a word: a misspelt setting, or one that an
    earlier version had (`enabled_precisions`, `use_explicit_typing`).
    """
    parameters = inspect.signature(torch_tensorrt.dynamo.compile).parameters.values()
    return frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))


def timing_cache() -> Path:
    """Where TensorRT keeps the timings of its kernels from build to build; one file a version, else it is refused."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "jpegdeep_torch" / f"tensorrt-{tensorrt_version()}.timing"


def tensorrt_version() -> str:
    """Of the installed TensorRT, or 'unknown'."""
    for name in ("tensorrt", "tensorrt_cu13", "tensorrt_cu12", "tensorrt_rtx"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return "unknown"


def batch_range(batch_sizes: Sequence[int]) -> tuple[int, int, int]:
    """Smallest, best and largest batch of an engine.

    It is tuned for the largest size.  torch.export cannot trace a dynamic batch with an example of 1, and
    Torch-TensorRT takes the engine's best size from that example, not from `Input`: so no range ends below 2.
    """
    largest = max(2, *batch_sizes)
    return min(batch_sizes), largest, largest


def compile_arguments(
    torch_tensorrt: ModuleType, model: Network, batch_sizes: Sequence[int], device: torch.device,
    settings: Settings | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Keywords of `torch_tensorrt.dynamo.compile` for a network in its final dtype.

    Precision is the network's own: TensorRT 11 networks are strongly typed.  Raises ModelError for `settings` that the
    installed version does not know, or that are not a caller's to choose.
    """
    smallest, best, largest = batch_range(batch_sizes)
    dtype = next(model.parameters()).dtype
    own: dict[str, Any] = {
        "arg_inputs": [
            torch_tensorrt.Input(
                min_shape=(smallest, *shape), opt_shape=(best, *shape), max_shape=(largest, *shape), dtype=dtype
            )
            for shape in model.config.input_shapes().values()
        ],
        "device": torch_tensorrt.Device(f"cuda:{device.index or 0}"),
        "require_full_compilation": True,
        "min_block_size": 1,
    }
    defaults: dict[str, Any] = {
        "disable_tf32": True,  # float32 means float32: TF32 keeps 10 bits of the mantissa
        "timing_cache_path": str(timing_cache()),
    }
    known = known_keywords(torch_tensorrt)
    if "use_explicit_typing" in known:  # before TensorRT 11 it had to be asked for
        own["use_explicit_typing"] = True
    unknown = sorted(set(settings or ()) - known)
    if unknown:
        raise ModelError(
            f"backend trt: torch_tensorrt {torch_tensorrt.__version__} does not know {', '.join(unknown)}; "
            f"it knows {', '.join(sorted(known - set(own)))}"
        )
    taken = sorted(set(settings or ()) & {*own, "exported_program", "inputs", "kwarg_inputs", "enabled_precisions"})
    if taken:
        raise ModelError(f"backend trt: {', '.join(taken)} cannot be set: the network and its precision decide")
    lost = sorted(set(own) - known)
    if lost:
        raise BackendUnavailable(
            f"backend trt: torch_tensorrt {torch_tensorrt.__version__} no longer knows {', '.join(lost)}, "
            "which this version of jpegdeep_torch relies on"
        )
    return own | {key: value for key, value in defaults.items() if key in known} | dict(settings or {})


def compile_engine(
    torch_tensorrt: ModuleType, model: Network, batch_sizes: Sequence[int], device: torch.device,
    settings: Settings | None = None,
) -> nn.Module:  # fmt: skip
    """`model`, on the GPU in its final dtype, as one engine; BackendUnavailable where TensorRT refuses."""
    arguments = compile_arguments(torch_tensorrt, model, batch_sizes, device, settings)
    _, best, largest = batch_range(batch_sizes)
    if "timing_cache_path" in arguments:
        Path(arguments["timing_cache_path"]).parent.mkdir(parents=True, exist_ok=True)
    exported = export_program(model, best, largest)
    try:
        with quietly():
            return torch_tensorrt.dynamo.compile(exported, **arguments)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise BackendUnavailable(
            f"backend trt: TensorRT did not build {model.config.name} ({type(error).__name__}: {reason})"
        ) from error


def quantized(model: Network, calibration: Calibration) -> Network:
    """A copy of `model` with int8 quantisers by NVIDIA's modelopt, calibrated; float32 in and out."""
    mtq = _modelopt("modelopt.torch.quantization")
    twin = copy.deepcopy(model)
    weight = next(twin.parameters())

    def show(network: nn.Module) -> None:
        with torch.no_grad():
            for batch in calibration:
                network(*(x.to(weight.device, weight.dtype) for x in batch))

    with quietly():
        mtq.quantize(twin, mtq.INT8_DEFAULT_CFG, forward_loop=show)
    return twin


def _modelopt(name: str) -> ModuleType:
    if find_spec("modelopt") is None:
        raise MissingExtra("backend trt: int8 needs NVIDIA's modelopt: pip install nvidia-modelopt")
    with quietly():
        return importlib.import_module(name)


def engine_function(torch_tensorrt: ModuleType, engine: nn.Module, cuda_graphs: bool = True) -> Function:
    """Tensors on the GPU, in the engine's dtype -> its outputs.

    With CUDA graphs, where the version offers them, an engine's launch is recorded once a batch size and replayed: the
    mode is global to the library, so it is on only around our own calls.
    """
    enable = getattr(getattr(torch_tensorrt, "runtime", None), "enable_cudagraphs", None)
    if not cuda_graphs or enable is None:
        return lambda *inputs: as_tuple(engine(*inputs))

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        with enable(engine) as graphed:
            # The graph's output memory is written again by the next replay.
            return tuple(y.clone() for y in as_tuple(graphed(*inputs)))

    return run


def buckets(batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """The batch sizes an engine is run with: those asked for, and powers of two between them.

    Each size costs a CUDA graph; a batch of another size is padded to the next of them.
    """
    smallest, _, largest = batch_range(batch_sizes)
    powers = {2**k for k in range(largest.bit_length()) if smallest <= 2**k <= largest}
    return tuple(sorted({*batch_sizes, *powers, largest}))


class TensorRTBackend(Backend):
    """The engine ends at logits and offsets; NMS stays in torch; int16 becomes floating point before it, on the GPU."""

    info = BackendInfo(
        name="trt",
        summary="TensorRT, by Torch-TensorRT",
        precisions={"cuda": ("float32", "float16", "bfloat16", "int8")},
        dynamic_batch=True,
        options=("calibration", "cuda_graphs", "settings"),
    )

    def require(self, device: torch.device | str = "cuda") -> None:
        missing = missing_parts()
        if missing:
            kind = BackendUnavailable if missing == [GPU] else MissingExtra
            raise kind(f"backend trt needs {', '.join(missing)} {INSTALL}")
        require_device("trt", device)

    def _build(
        self, model: Network, device: torch.device, precision: str, batch_sizes: tuple[int, ...],
        calibration: Calibration | None = None, cuda_graphs: bool = True, settings: Settings | None = None,
    ) -> Runner:  # fmt: skip
        """`settings` are further keywords of `torch_tensorrt.dynamo.compile`, such as optimization_level."""
        torch_tensorrt, engine = self.compile(model, device, precision, batch_sizes, calibration, settings)
        return engine_runner(torch_tensorrt, engine, device, precision, batch_sizes, cuda_graphs)

    def compile(
        self, model: Network, device: torch.device, precision: str, batch_sizes: tuple[int, ...],
        calibration: Calibration | None = None, settings: Settings | None = None,
    ) -> tuple[ModuleType, nn.Module]:  # fmt: skip
        """(torch_tensorrt, the engine): what `_build` runs and `torch_to_engine.py` saves."""
        if precision == "int8":
            check_calibration("trt", calibration)
            _modelopt("modelopt")
        torch_tensorrt = import_torch_tensorrt()
        ready = on_device(model, device, PRECISIONS[precision])
        if precision != "int8":
            return torch_tensorrt, compile_engine(torch_tensorrt, ready, batch_sizes, device, settings)
        assert calibration is not None  # checked above
        ready = quantized(ready, calibration)
        # modelopt's quantisers are exported as operators only inside this.
        with _modelopt("modelopt.torch.quantization.utils").export_torch_mode():
            return torch_tensorrt, compile_engine(torch_tensorrt, ready, batch_sizes, device, settings)


def engine_runner(
    torch_tensorrt: ModuleType, engine: nn.Module, device: torch.device, precision: str, batch_sizes: tuple[int, ...],
    cuda_graphs: bool = True,
) -> Runner:  # fmt: skip
    """The Runner of an engine, just built or loaded."""
    function, sizes = engine_function(torch_tensorrt, engine, cuda_graphs), buckets(batch_sizes)
    linear = torch.contiguous_format  # NCHW, as the engine's inputs are
    return Runner(function, TensorRTBackend.info, device, precision, batch_sizes, sizes, linear)
