"""A seeded portion of tests/mutations.py, which runs 2,000."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations import KINDS


@pytest.mark.slow
def test_files_of_every_kind_are_right_or_one_line():
    """Five of each kind; under 1 GiB and 20 s each, and nothing left behind.

    In a process of its own: what the mutations are measured in is forked from it, and has the memory that it has.
    """
    count = 5 * len(KINDS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations", "--count", str(count)],
        cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r": (\d+) right, (\d+) refused, 0 failed", done.stdout)
    right, refused = (sum(map(int, column)) for column in zip(*rows, strict=True))
    assert len(rows) == len(KINDS) and right + refused == count and right > 0 and refused > 0
