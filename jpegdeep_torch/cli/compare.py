"""Two evaluations of the same images side by side: per class, and a paired bootstrap interval for the difference.

jpegdeep compare A.json B.json
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..evaluation.comparison import Difference, compare_records
from ..evaluation.records import read_record
from ..utils.files import write_json
from ..utils.text_table import text_table
from .command import Parser
from .common import progress_bar


def main(argv: Sequence[str] | None = None) -> None:
    p = Parser(prog="jpegdeep compare", description=__doc__.splitlines()[0])
    p.add_argument("a", metavar="A.json", help="from --json of eval voc, eval coco or eval imagenet")
    p.add_argument("b", metavar="B.json", help="of the same images")
    p.add_argument("--resamples", type=int, default=1000, metavar="N",
                   help="draws of the bootstrap (default: %(default)s)")  # fmt: skip
    p.add_argument("--level", type=float, default=0.95, help="of the interval (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", metavar="FILE", help="write the comparison there")
    args = p.parse_args(argv)
    records = [read_record(path) for path in (args.a, args.b)]
    result = compare_records(
        *records, args.resamples, args.level, args.seed,
        progress=lambda draws: progress_bar(draws, desc="resampling", unit=" draws", leave=False),
    )  # fmt: skip
    for letter, path, record in zip("AB", (args.a, args.b), records):
        print(f"{letter}: {record['results'][0].get('model')} ({path})")
    print(text_table([_row(item, args.level) for item in result.classes + result.total]))
    print(f"{result.images} images, {result.resamples} draws; * where the interval leaves 0 out")
    if args.json:
        found = {"command": "eval.compare", "arguments": vars(args), "results": [dataclasses.asdict(result)]}
        write_json(args.json, found)


def _row(item: Difference, level: float) -> dict[str, object]:
    def shown(value: float | None, form: str = ".4f") -> str:
        return "-" if value is None else format(value, form)

    interval = f"{shown(item.low, '+.4f')} .. {shown(item.high, '+.4f')}{' *' if item.is_sure else '  '}"
    return {
        "": item.name, "A": shown(item.a), "B": shown(item.b), "B - A": shown(item.difference, "+.4f"),
        f"{level:.0%} interval": interval,
    }  # fmt: skip
