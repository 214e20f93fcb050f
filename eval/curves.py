"""Loss and mAP of training runs against their steps, as a plot.

python -m eval.curves runs/dct runs/rgb -o curves.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from eval.benchmark.curves import plot_curves
from jpegdeep_torch.cli.command import Parser, run_command
from jpegdeep_torch.utils.text_table import text_table


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.curves", description=__doc__.splitlines()[0])
    p.add_argument("runs", metavar="RUN", nargs="+", help="a training run's folder")
    p.add_argument("-o", "--output", metavar="FILE", default="curves.png", help="(default: %(default)s)")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    curves = plot_curves(args.runs, args.output)
    rows = [
        {"run": name, "figure": figure, "steps": points[-1][0], "last": points[-1][1],
         "least": min(v for _, v in points), "most": max(v for _, v in points)}
        for name, lines in curves.items()
        for figure, points in lines.items()
    ]  # fmt: skip
    print(text_table(rows))
    print(args.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
