"""The short form of `jpegdeep convert` in a clone: python convert/torch_to_torch.py FILE.pth ..."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main

if __name__ == "__main__":
    sys.exit(run_command(main))
