"""Training runs in processes of their own, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

TINY = """
[model]
name = "ssd300_vgg16_dct"
width = 0.03
scale_to_data = true
[data]
kind = "voc"
train = [{{ root = "{root}", set = "train" }}]
evaluate = [{{ root = "{root}", set = "test" }}]
workers = 0
[optimizer]
learning_rate = 0.01
base_batch_size = 4
clip_norm = 5.0
[schedule]
kind = "cosine"
[run]
batch_size = 4
steps_per_epoch = 4
epochs = 2
threads = 1
log_steps = 1
ema = 0.9
"""


def write_config(folder: Path, root: Path, text: str = TINY) -> Path:
    path = folder / "run.toml"
    path.write_text(text.format(root=root.as_posix()), encoding="utf-8")
    return path


def command(
    config: Path, output: Path, *changes: str, processes: int = 1, module: str = "jpegdeep_torch.training"
) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*start, "-m", module, str(config), "-o", str(output), *changes]


def train(config: Path, output: Path, *changes: str, **options) -> subprocess.CompletedProcess:
    """Runs to the end; the caller looks at the exit status.  options: of `command`."""
    line = command(config, output, *changes, **options)
    return subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
