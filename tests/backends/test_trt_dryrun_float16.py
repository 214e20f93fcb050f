"""Every network in float16 through Torch-TensorRT's own partitioner: one engine, nothing left to PyTorch.

A file a precision, so that two processes share the work.
"""

from __future__ import annotations

from pathlib import Path

from tests.backends.dryrun import check_all_networks


def test_one_engine_each(shared: Path):
    check_all_networks(shared, "float16")
