"""The short form of `jpegdeep eval imagenet` in a clone: python -m eval.imagenet."""

import sys

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.evaluate import imagenet as main

if __name__ == "__main__":
    sys.exit(run_command(main))
