"""The training command, in float64, as on more than 20,000 pictures: of which it looks at the headers alone before.

python -m tests.training.headers_alone CONFIG.toml ...
"""

from __future__ import annotations

import sys

from tests.training.in_float64 import main, run_command  # first: in float64 is what is imported from there on

from jpegdeep_torch.training import pictures  # isort: skip

pictures._MOST_WHOLE = -1

if __name__ == "__main__":
    sys.exit(run_command(main))
