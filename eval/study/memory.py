"""Peak memory of a detector at work, taken in a process of its own: what came before leaves no trace in the figure.

python -m eval.study.memory '{"weights": FILE, "images": DIR, ...}'
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from jpegdeep_torch.errors import JpegDeepError


@dataclass(frozen=True)
class MemoryPoint:
    """A detector from a weights file, run over the JPEGs of a folder, which it reads in `batches` batches."""

    weights: str
    images: str
    batch_size: int = 8
    workers: int = 1
    threads: int = 1
    coefficients: str | None = None
    batches: int = 4
    backend: str = "torch"
    device: str = "cpu"
    precision: str = "float32"


@dataclass(frozen=True)
class MemoryUse:
    """MiB.  `imported`: with all libraries loaded and nothing else; `peak`: above that, weights included; `workers`:
    what the reading processes have for themselves, together; `gpu`: what PyTorch had of the GPU's at most."""

    imported: float
    peak: float
    workers: float
    gpu: float = 0.0


def measure_memory(point: MemoryPoint) -> MemoryUse:
    """Runs `point` in a new process.  JpegDeepError with its last line where it fails, or where the system does not
    tell (other than Linux)."""
    if not Path("/proc/self/status").exists():
        raise JpegDeepError("peak memory is read from /proc, which this system has not")
    command = [sys.executable, "-m", __name__, json.dumps(asdict(point))]
    root = Path(__file__).resolve().parents[2]
    inherited = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join([str(root), *([inherited] if inherited else [])])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise JpegDeepError(f"the process whose memory was measured ended with {done.returncode}: {last}")
    return MemoryUse(**json.loads(done.stdout.strip().splitlines()[-1]))


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def _children_mib() -> float:
    """What child processes do not share with others; nothing of those that end meanwhile."""
    kib = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
                kib += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return kib / 1024


def _run(point: MemoryPoint) -> MemoryUse:
    import cv2  # noqa: F401 - read on first use otherwise
    import torch
    import torchvision  # noqa: F401

    from jpegdeep_torch.inference.detector import Detector
    from jpegdeep_torch.inference.sources import expand_sources
    from jpegdeep_torch.utils.memory import keep_freed_memory

    keep_freed_memory()  # as the commands do
    torch.set_num_threads(point.threads)
    imported, workers = _status_mib("VmRSS"), 0.0
    files = list(expand_sources(point.images))
    wanted = point.batches * point.batch_size
    sources = (files[i % len(files)] for i in range(wanted))
    detector = Detector.load(
        point.weights, point.device, point.backend, coefficients=point.coefficients, precision=point.precision,
        batch_size=point.batch_size, workers=point.workers,
    )  # fmt: skip
    for answer in detector.stream(sources):
        if answer.index % point.batch_size == 0:
            workers = max(workers, _children_mib())
    gpu = torch.cuda.max_memory_reserved(detector.device) / 2**20 if detector.device.type == "cuda" else 0.0
    return MemoryUse(imported, _status_mib("VmHWM") - imported, workers, gpu)


if __name__ == "__main__":
    print(json.dumps(asdict(_run(MemoryPoint(**json.loads(sys.argv[1]))))))
