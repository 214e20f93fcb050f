"""That importing the package changes nothing outside of it, and what the JPEG reader alone needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jpegdeep_torch.jpeg import read_dct
from jpegdeep_torch.jpeg.native import native_module
from tests.jpeg_samples import jpeg

# What is not ours comes first: PyTorch itself sets up this and that.
PROGRAM = """
import json, multiprocessing, os, pkgutil, signal, sys, warnings
import cv2, torch, torchvision

for name in sys.argv[1].split():
    __import__(name)

def state():
    return {
        "threads of OpenCV": cv2.getNumThreads(),
        "threads of PyTorch": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "environment": dict(os.environ),
        "filters of warnings": [repr(f) for f in warnings.filters],
        "signals": {s.name: repr(signal.getsignal(s)) for s in signal.Signals},
        "start method": multiprocessing.get_start_method(allow_none=True),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
        "defaults of PyTorch": [
            repr(torch.get_default_dtype()), torch.is_grad_enabled(), torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(), torch.initial_seed(),
        ],
        "CUDA": torch.cuda.is_initialized(),
        "folder": os.getcwd(),
    }

torch.manual_seed(1)
cv2.setNumThreads(3)
torch.set_num_threads(3)
before = state()
import jpegdeep_torch
imported = []
for module in pkgutil.walk_packages(jpegdeep_torch.__path__, "jpegdeep_torch."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
        imported.append(module.name)
after = state()
print(json.dumps([len(imported), [key for key in before if before[key] != after[key]]]))
"""
OTHERS = "h5py safetensors.torch tqdm torch.utils.data torch._inductor.config multiprocessing.resource_tracker"


@pytest.fixture(scope="module")
def outcome() -> list:
    line = [sys.executable, "-c", PROGRAM, OTHERS]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return [*json.loads(done.stdout.splitlines()[-1]), done]


def test_importing_every_module_changes_nothing_outside(outcome):
    imported, changed, _ = outcome
    assert imported > 80 and changed == []


def test_importing_every_module_prints_nothing(outcome):
    assert outcome[2].stdout.count("\n") == 1 and outcome[2].stderr == ""


READ_ALONE = """
import sys
from jpegdeep_torch.jpeg import check_jpeg, read_dct, read_planes

data = open(sys.argv[1], "rb").read()
check_jpeg(data)
assert len(read_planes(sys.argv[1]).coefficients) == 3
sys.stdout.buffer.write(read_dct(data, 300).luma.tobytes())
"""


def test_coefficients_are_read_with_numpy_alone(tmp_path):
    """In an interpreter whose path holds NumPy and this package, and neither PyTorch, OpenCV nor Pillow."""
    if native_module() is None:
        pytest.skip("what is not native needs the libraries that decode")
    packages = tmp_path / "packages"
    packages.mkdir()
    numpy = Path(np.__file__).parent
    for folder in (numpy, numpy.parent / "numpy.libs", Path(__file__).resolve().parents[1] / "jpegdeep_torch"):
        if folder.exists():
            (packages / folder.name).symlink_to(folder)
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    line = [sys.executable, "-S", "-c", READ_ALONE, tmp_path / "photo.jpg"]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == read_dct(jpeg(), 300).luma.tobytes()
