"""The short form of `jpegdeep convert` in a clone: python convert/keras_to_torch.py FILE.h5 ..."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main

if __name__ == "__main__":
    sys.exit(run_command(main))
