"""What all backends share: what they say of themselves, their checks, and the callable that they give back."""

from __future__ import annotations

import abc
import copy
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import BackendUnavailable, MissingExtra, ModelError
from ..models import Network

Function = Callable[..., tuple[Tensor, ...]]  # a network's inputs -> its outputs
Model = TypeVar("Model", bound=nn.Module)
Calibration = Iterable[Sequence[Tensor]]  # batches of inputs to learn the ranges of int8 from

PRECISIONS = {  # precision -> dtype of the network's inputs
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.float32,  # quantised inside: the network still takes and gives floating point
}


@dataclass(frozen=True)
class BackendInfo:
    """What a backend can do.  `precisions` are keyed by kind of device; `options` are the keywords `build` takes."""

    name: str
    summary: str
    precisions: dict[str, tuple[str, ...]]
    dynamic_batch: bool  # one build serves every batch size; else other sizes are padded to a built one
    options: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.precisions)


class Runner:
    """A network made ready.  Call it as the network: inputs -> (class_logits, box_offsets), or logits of a classifier.

    Inputs are what the network takes, (N, channels, rows, columns), on any device, floating point or integer (int16
    coefficients, exact in float16 up to 2048 in size, which 8-bit JPEGs never exceed; beyond, rounded to 11 bits).
    They are moved to `device` first and become `dtype` there.  Outputs lie on `device`.
    """

    def __init__(
        self,
        function: Function,
        info: BackendInfo,
        device: torch.device,
        precision: str,
        batch_sizes: tuple[int, ...],
        buckets: tuple[int, ...] | None = None,
        memory_format: torch.memory_format = torch.channels_last,
    ):
        self.info = info
        self.device = device
        self.precision = precision
        self.dtype = PRECISIONS[precision]
        self.batch_sizes = batch_sizes
        self.build_seconds = 0.0
        self.description: object | None = None  # of a runner from an engine file: its EngineDescription
        self._function = function
        self._memory_format = memory_format
        self._buckets = tuple(sorted(buckets)) if buckets else None

    def prepare(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The inputs on the runner's device, in its dtype and memory format; no copy of what already is."""
        moved = (x.to(self.device, non_blocking=True) for x in inputs)  # integers travel: half the bytes of float32
        return tuple(x.to(self.dtype).contiguous(memory_format=self._memory_format) for x in moved)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...] | Tensor:
        ready = self.prepare(inputs)
        outputs = self._function(*ready) if self._buckets is None else self._in_buckets(ready, self._buckets)
        return outputs if len(outputs) > 1 else outputs[0]

    def keep_to_batches_of(self, size: int) -> None:
        """From now on smaller batches are filled up to `size`, and cut again: see `scale.rows.whole_batches`."""
        if self._buckets is None:
            self._buckets = (size,)

    def _in_buckets(self, inputs: tuple[Tensor, ...], buckets: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Runs a batch of any size on a function that knows only the sizes in `buckets`, which grow."""
        count, largest = inputs[0].shape[0], buckets[-1]
        parts = []
        for start in range(0, count, largest):
            part = tuple(x[start : start + largest] for x in inputs)
            size = part[0].shape[0]
            bucket = next(b for b in buckets if b >= size)
            outputs = self._function(*(_padded(x, bucket) for x in part))
            parts.append(tuple(y[:size] for y in outputs))
        return parts[0] if len(parts) == 1 else tuple(torch.cat(ys) for ys in zip(*parts))


def _padded(x: Tensor, count: int) -> Tensor:
    """(n, ...) -> (count, ...): zeros behind, in the same memory format."""
    if x.shape[0] == count:
        return x
    wide = x.new_zeros((count, *x.shape[1:]))
    if x.ndim == 4 and not x.is_contiguous():
        wide = wide.contiguous(memory_format=torch.channels_last)
    wide[: x.shape[0]] = x
    return wide


class Backend(abc.ABC):
    """A way to run networks.  Subclasses give `info`, `require` and `_build`."""

    info: BackendInfo

    def build(
        self,
        model: Network,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        batch_sizes: Sequence[int] = (1, 8),
        **options: Any,
    ) -> Runner:
        """A callable that runs `model`, which is left as it is.

        Args:
            model: from `create_model` or `load_model`, float32, in eval mode.
            device: 'cpu', 'cuda' or 'cuda:N'.
            precision: one of `info.precisions[device's kind]`.
            batch_sizes: what will be asked for.  Other sizes work too, perhaps more slowly: a backend may build for
                these alone, or tune for the largest.  (1,) alone asks for low latency, others for throughput.
            options: those in `info.options`.

        Raises:
            BackendUnavailable: the library, the device or the precision is not to be had here.
            ModelError: an argument is impossible.
        """
        device = torch.device(device)
        sizes = self._check(model, device, precision, batch_sizes, options)
        self.require(device)
        start = time.perf_counter()
        runner = self._build(model, device, precision, sizes, **options)
        runner.build_seconds = time.perf_counter() - start
        return runner

    @abc.abstractmethod
    def require(self, device: torch.device | str = "cpu") -> None:
        """BackendUnavailable, naming what is missing and how to get it, where this cannot run on `device`."""

    @abc.abstractmethod
    def _build(
        self,
        model: Network,
        device: torch.device,
        precision: str,
        batch_sizes: tuple[int, ...],
        *_: Any,  # nothing is passed here: so mypy lets each backend name its own options
        **options: Any,
    ) -> Runner: ...

    def _check(
        self,
        model: Network,
        device: torch.device,
        precision: str,
        batch_sizes: Sequence[int],
        options: dict[str, object],
    ) -> tuple[int, ...]:
        name = self.info.name
        if model.training:
            raise ModelError(f"backend {name}: the network is in training mode, expected eval mode")
        if device.type not in self.info.precisions:
            raise BackendUnavailable(f"backend {name} runs on {', '.join(self.info.devices)}, not on {device}")
        known = self.info.precisions[device.type]
        if precision not in PRECISIONS:
            raise ModelError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
        if precision not in known:
            raise BackendUnavailable(f"backend {name} has {', '.join(known)} on {device.type}, not {precision}")
        unknown = sorted(set(options) - set(self.info.options))
        if unknown:
            expected = ", ".join(self.info.options) or "none"
            raise ModelError(f"backend {name}: unknown options {', '.join(unknown)}; expected {expected}")
        sizes = tuple(sorted(set(batch_sizes)))
        if not sizes or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in sizes):
            raise ModelError(f"batch sizes are {tuple(batch_sizes)}, expected whole numbers of at least 1")
        return sizes


class CpuLibraryBackend(Backend):
    """A library that runs networks on the CPU, in float32 or quantised to int8.  Subclasses give `info` and `_compile`.

    Options: `calibration`, batches of inputs, for int8; `threads`, by default PyTorch's.
    """

    def _build(
        self, model: Network, device: torch.device, precision: str, batch_sizes: tuple[int, ...],
        calibration: Calibration | None = None, threads: int | None = None,
    ) -> Runner:  # fmt: skip
        if precision == "int8":
            check_calibration(self.info.name, calibration)
        ready, used = on_device(model, device, torch.float32), calibration if precision == "int8" else None
        return self.runner(self._compile(ready, used, batch_sizes, threads), precision, batch_sizes)

    @abc.abstractmethod
    def _compile(
        self, model: Network, calibration: Calibration | None, batch_sizes: tuple[int, ...], threads: int | None
    ) -> Function:
        """Contiguous float32 tensors -> the network's outputs; in int8 where there is `calibration`."""

    @classmethod
    def runner(cls, function: Function, precision: str, batch_sizes: tuple[int, ...]) -> Runner:
        """The Runner of what `_compile` gives, or of an engine file."""
        device, memory_format = torch.device("cpu"), torch.contiguous_format
        return Runner(function, cls.info, device, precision, batch_sizes, memory_format=memory_format)


def check_calibration(name: str, calibration: object) -> None:
    """ModelError where int8 was asked for without data to calibrate on."""
    if calibration is None:
        raise ModelError(f"backend {name}: int8 needs calibration, batches of inputs to learn the ranges from")


def chosen_device(name: str | None) -> str:
    """`name`, checked to be one that PyTorch knows; for None, 'cuda' where there is a GPU, else 'cpu'.  ModelError."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise ModelError(f"unknown device {name!r}: expected cpu, cuda or cuda:N") from None


def require_packages(backend: str, extra: str, *packages: str) -> None:
    """MissingExtra where one of `packages`, which `extra` of jpegdeep-torch brings, is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtra(f"backend {backend} needs {' and '.join(missing)}: pip install 'jpegdeep-torch[{extra}]'")


def require_device(name: str, device: torch.device | str) -> None:
    """BackendUnavailable where PyTorch cannot use `device`."""
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(
            f"backend {name} on {device}: PyTorch sees no NVIDIA GPU; use device cpu, or a machine with a GPU, its "
            "driver and a CUDA build of PyTorch"
        )
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise BackendUnavailable(f"backend {name}: no {device}, PyTorch sees {torch.cuda.device_count()} GPU(s)")


def on_device(model: Model, device: torch.device, dtype: torch.dtype) -> Model:
    """`model` on `device` in `dtype`, channels last: the same object where it is so already, else a copy."""
    here = next(model.parameters())
    if here.device == device and here.dtype == dtype:
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype).to(memory_format=torch.channels_last)


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A network's outputs as a tuple, whether it is a detector or a classifier."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def example_inputs(
    model: Network,
    batch_size: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """Repeatable random inputs that `model` takes, channels last, in the range of real ones, whole numbers.

    Pixels less their mean spread over about +-120; coefficients fall off with frequency from about +-500.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for channels, rows, columns in config.input_shapes().values():
        x = torch.randn(batch_size, channels, rows, columns, generator=generator)
        if config.is_dct:
            order = torch.arange(channels) % 64
            x *= (300.0 / (1 + order % 8 + order // 8) ** 2).view(1, -1, 1, 1)
        else:
            x *= 60.0
        inputs.append(x.round().to(device=device, dtype=dtype, memory_format=torch.channels_last))
    return tuple(inputs)
