"""That freed memory is kept, and given back before workers share it: counted in pages, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

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


LOADERS = """
import os, sys, torch
from jpegdeep_torch import keep_freed_memory
from jpegdeep_torch.data import make_loader
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from tests.jpeg_samples import jpeg
keep_freed_memory()
pages = lambda: int(open("/proc/self/statm").read().split()[1])
loader = make_loader([jpeg()], model_config("ssd300_vgg16_dct"), get_preset("voc"), workers=int(sys.argv[1]))
found = []
for _ in range(2):
    torch.ones(64 << 20)  # 256 MiB, 65536 pages of 4 KiB
    before = pages()
    list(loader)
    found.append(before - pages())
print(*found)
"""


def printed(program: str, *arguments: str) -> list[int]:
    line = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="for the C library of Linux")
def test_kept_memory_is_not_made_anew():
    (kept,), (given_back,) = printed(PROGRAM, "keep"), printed(PROGRAM, "give back")
    assert kept < 1000
    assert given_back > 10 * kept  # what makes it worth while; huge pages, where the system has them, count once


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="for the C library of Linux")
@pytest.mark.parametrize(("workers", "given_back"), [(1, [True, False]), (0, [False, False])])
def test_workers_do_not_get_what_was_freed(workers, given_back):
    """They are started once, and would keep a copy of it."""
    assert [pages > 50_000 for pages in printed(LOADERS, str(workers))] == given_back
