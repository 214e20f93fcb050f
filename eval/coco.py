"""The short form of `jpegdeep eval coco` in a clone: python -m eval.coco."""

import sys

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.evaluate import coco as main

if __name__ == "__main__":
    sys.exit(run_command(main))
