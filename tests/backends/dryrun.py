"""Starts real_torch_tensorrt.py where the wheel is installed and shared/ is at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jpegdeep_torch.models import list_models


def real_library(shared: Path, *arguments: str) -> dict:
    """What real_torch_tensorrt.py answers."""
    tool = shared / "tools" / "trt_dryrun.py"
    if find_spec("torch_tensorrt") is None:
        pytest.skip("torch-tensorrt's wheel is not installed (pip install --no-deps torch-tensorrt)")
    if not tool.is_file():
        pytest.skip("shared/tools/trt_dryrun.py is not at hand")
    script = Path(__file__).with_name("real_torch_tensorrt.py")
    done = subprocess.run([sys.executable, str(script), str(tool), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_all_networks(shared: Path, precision: str) -> None:
    answer = real_library(shared, "dryrun", precision, *list_models())
    split = {name: found for name, found in answer["tool"].items() if found[0] != 1 or found[1] != found[2]}
    assert not split, f"engines, operators converted, operators in all: {split}"
    assert len(answer["tool"]) == len(list_models())
    assert answer["ours"] == 1
