"""The short form of `jpegdeep train`, which torchrun can start: python -m jpegdeep_torch.training."""

import sys

from ..cli.command import run_command
from ..cli.train import main

if __name__ == "__main__":
    sys.exit(run_command(main))
