"""How far a DCT detector's detections by 'native' coefficients are from the reference's, by 'reencode'.

python -m eval.dct_difference WEIGHTS DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from eval.benchmark.coefficient_difference import coefficient_difference, table
from jpegdeep_torch.cli.command import Parser, run_command
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.errors import DatasetError, ModelError
from jpegdeep_torch.evaluation.records import shortened
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.weights import load_model


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.dct_difference", description=__doc__.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a DCT detector's safetensors file")
    p.add_argument("images", metavar="DIR", help="JPEG files")
    p.add_argument(
        "--list", metavar="FILE", type=Path, help="names, one per line, without ending: these files of DIR only"
    )
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--json", metavar="FILE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.batch_size < 1:
        raise ModelError(f"--batch-size {args.batch_size}: expected at least 1")
    files = list_jpegs(args.images)
    if args.list is not None:
        try:
            wanted = set(args.list.read_text().split())
        except OSError as error:
            raise DatasetError(f"{args.list}: cannot be read ({error.strerror})") from None
        files = [file for file in files if file.stem in wanted]
        if len(files) != len(wanted):
            raise DatasetError(f"{args.list}: names {len(wanted)} files, {len(files)} of them are in {args.images}")
    model = load_model(args.weights)
    with tqdm(total=len(files), unit="image", file=sys.stderr) as bar:
        result = coefficient_difference(
            model, model.info.preset, files, score=args.score, batch_size=args.batch_size, on_image=bar.update
        )
    print(table(result))
    if args.json:
        samples = {name: shortened(getattr(result, name)) for name in ("score_differences", "box_differences_px")}
        record = run_header("eval.dct_difference", vars(args)) | {"results": [result.summary()], "samples": samples}
        write_json(args.json, record)


if __name__ == "__main__":
    sys.exit(run_command(main))
