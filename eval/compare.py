"""The short form of `jpegdeep compare` in a clone: python -m eval.compare."""

import sys

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.compare import main

if __name__ == "__main__":
    sys.exit(run_command(main))
