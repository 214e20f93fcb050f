"""The machine and the versions that a figure was taken with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = (
    *("torch", "torchvision", "numpy", "pillow", "opencv-python-headless", "jpeg2dct-numpy", "jpeg2dct"),
    *("onnxruntime", "openvino", "torch-tensorrt", "tensorflow-cpu", "tensorflow", "tf_keras"),
)


def machine() -> dict[str, object]:
    """What the figures hang on: processor, cores, memory, GPU, system."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python and of the libraries on the timed path, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def run_header(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What every command's JSON begins with: itself, its arguments, the machine, the versions."""
    plain = {key: _plain(value) for key, value in arguments.items()}
    return {"command": command, "arguments": plain, "machine": machine(), "versions": versions()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, list, type(None))) else str(value)
