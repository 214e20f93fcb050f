"""One call for every way to run a network: `get_backend(NAME).build(network, ...)` gives a callable on tensors.

Importing this imports none of the libraries behind the backends; a backend that cannot run here says so on `build`.
"""

from __future__ import annotations

import importlib

from ..errors import ModelError
from .agreement import TOLERANCES, Comparison, Tolerance, compare
from .base import PRECISIONS, Backend, BackendInfo, Runner, chosen_device

__all__ = [
    "PRECISIONS",
    "TOLERANCES",
    "Backend",
    "BackendInfo",
    "Comparison",
    "Runner",
    "Tolerance",
    "chosen_device",
    "compare",
    "get_backend",
    "list_backends",
]

_BACKENDS = {  # name -> (module, class)
    "torch": ("eager", "EagerBackend"),
    "compile": ("compiled", "CompileBackend"),
    "onnxruntime": ("ort", "OnnxRuntimeBackend"),
    "openvino": ("ov", "OpenVinoBackend"),
    "trt": ("trt", "TensorRTBackend"),
}


def list_backends() -> list[str]:
    """Names of all backends, whether or not they can run here."""
    return list(_BACKENDS)


def get_backend(name: str) -> Backend:
    """The backend called `name`; ModelError, naming the known ones, where there is none.

    A known backend is given even where its library is missing: `build` raises BackendUnavailable then.
    """
    if name not in _BACKENDS:
        raise ModelError(f"unknown backend {name!r}: expected one of {', '.join(_BACKENDS)}")
    module, kind = _BACKENDS[name]
    return getattr(importlib.import_module(f".{module}", __name__), kind)()
