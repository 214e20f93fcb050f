"""What several test files need.  `shared/` beside the repository holds reference data that is not ours to ship."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"
torch.set_num_threads(1)  # the tests run as one process a core


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared/` beside the repository."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("shared/ is not beside the repository: the stored Keras outputs are not at hand")
    return SHARED


@pytest.fixture
def unpacked(shared: Path, tmp_path: Path):
    """unpacked(NAME) -> the reference checkpoint NAME.h5, in a folder that goes with the test."""
    made = []

    def unpack(name: str) -> Path:
        target = tmp_path / f"{name}.h5"
        with lzma.open(shared / "reference" / "checkpoints" / f"{name}.h5.xz") as packed, open(target, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        made.append(target)
        return target

    yield unpack
    for path in made:  # up to 550 MB each: do not keep them for pytest's last three runs
        path.unlink(missing_ok=True)
