"""The training command with float64 in place of float32, so that rounding says nothing about two processes and one.

python -m tests.training.in_float64 CONFIG.toml ...
"""

from __future__ import annotations

import sys

import safetensors.torch  # noqa: F401 - has tables by type, which are to be made before
import torch
import torch.optim.swa_utils
import torchvision  # noqa: F401

torch.set_default_dtype(torch.float64)
torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double

from jpegdeep_torch.cli.command import run_command  # noqa: E402 - in float64, as everything imported from here on
from jpegdeep_torch.cli.train import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_command(main))
