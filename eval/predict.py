"""The short form of `jpegdeep predict` in a clone: python -m eval.predict."""

import sys

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.predict import main

if __name__ == "__main__":
    sys.exit(run_command(main))
