"""Shards made here, and the command over them as a process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.jpeg_samples import jpeg, picture
from tests.shapes import ROOT


def samples(count: int) -> list[tuple[str, bytes]]:
    """(name, JPEG) of small pictures; every seventh is damaged."""
    found = []
    for k in range(count):
        data = jpeg(picture(90 + 8 * (k % 5), 120, k))
        found.append((f"{k:05d}.jpg", data[: len(data) // 2] if k % 7 == 3 else data))
    return found


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """A shard in WebDataset's form: a label beside each picture."""
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            for member, content in ((name, data), (f"{name[:-4]}.cls", b"7")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def write_shards(folder: Path, shards: int, each: int) -> list[Path]:
    """`folder`/shard-0000.tar and so on, of `each` files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = samples(shards * each)
    return [write_tar(folder / f"shard-{k:04d}.tar", files[k * each : (k + 1) * each]) for k in range(shards)]


def command(*words: object, processes: int = 0, **environment: str) -> list[str]:
    """`jpegdeep predict WORDS`, or the same under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes else []
    return [sys.executable, *torchrun, "-m", "jpegdeep_torch", "predict", *map(str, words)]


def start(*words: object, processes: int = 0, **environment: str) -> subprocess.Popen:
    """The command, in a process group of its own, one thread a process."""
    return subprocess.Popen(
        command(*words, processes=processes), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """(exit status, what it said)."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def results(folder: Path) -> dict[str, bytes]:
    """The Parquet files' bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}
