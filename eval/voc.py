"""The short form of `jpegdeep eval voc` in a clone: python -m eval.voc."""

import sys

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.evaluate import voc as main

if __name__ == "__main__":
    sys.exit(run_command(main))
