"""That freed memory is kept: counted by the pages that the system had to make, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from jpegdeep_torch import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(30):
    if i == 20:  # small allocations come to lie between the large ones at first
        before = faults()
    torch.ones(16 << 20)  # 64 MiB, 16384 pages of 4 KiB
print(faults() - before)
"""


def new_pages(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="for the C library of Linux")
def test_kept_memory_is_not_made_anew():
    kept, given_back = new_pages("keep"), new_pages("give back")
    assert kept < 1000
    assert given_back > 10 * kept  # what makes it worth while; huge pages, where the system has them, count once
