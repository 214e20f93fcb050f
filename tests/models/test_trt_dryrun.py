"""Would Torch-TensorRT convert each network whole?  Needs torch-tensorrt (not TensorRT, not a GPU) and shared/.

Each network takes some 10 s, so two are checked; JPEGDEEP_TRT_ALL=1 checks all twenty in both precisions.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jpegdeep_torch.models import list_models

REPOSITORY = Path(__file__).resolve().parents[2]
SOME = ("ssd300_vgg16:half", "ssd300_resnet50_lcrfa_y")  # the rounding-up pool and L2 norm; the even kernels
ALL = tuple(name + suffix for name in list_models() for suffix in ("", ":half"))


@pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is None, reason="torch-tensorrt is not installed")
@pytest.mark.parametrize("name", ALL if os.environ.get("JPEGDEEP_TRT_ALL") else SOME)
def test_one_engine_and_every_operator(name, shared):
    tool = shared / "tools" / "trt_dryrun.py"
    command = [sys.executable, tool, "tests.models.trt_factory:factory", name]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert run.stdout.startswith(f"{name}: 1 engine, ")
