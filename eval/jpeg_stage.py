"""The JPEG stage alone: every reader and resizer, as a ratio to libjpeg's bare coefficient read.

python -m eval.jpeg_stage --images DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.benchmark.axes import bare_axes
from eval.benchmark.figures import new_figure, save_figure
from eval.benchmark.jpeg_stage import (
    ANTIALIASED,
    BARE,
    NATIVE,
    PIXELS,
    READ,
    REENCODE,
    StageTimes,
    geometric_mean,
    measure,
)
from eval.benchmark.photos import builtin_jpegs
from eval.benchmark.statistics import summary
from jpegdeep_torch.cli.command import Parser, run_command
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.errors import JpegDeepError
from jpegdeep_torch.utils.environment import machine, run_header
from jpegdeep_torch.utils.files import write_json

# What is compared with what; 'fastest RGB' is each file's own fastest.
RATIOS = (
    (NATIVE, BARE),
    (NATIVE, ANTIALIASED),
    (NATIVE, "fastest RGB"),
    (NATIVE, REENCODE),
    (READ, BARE),
    (PIXELS, ANTIALIASED),
)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.jpeg_stage", description=__doc__.splitlines()[0])
    p.add_argument("--images", nargs="+", default=[], metavar="DIR",
                   help="folders of JPEGs, each one set (default: 32 built-in photographs, and the JPEGs in "
                   "scikit-image's and scikit-learn's packages)")  # fmt: skip
    p.add_argument("--builtin", action="store_true", help="the default sets too, beside --images")
    p.add_argument("--limit", type=int, metavar="N", help="at most N files of each set, evenly spread")
    p.add_argument("--rounds", type=int, default=7, help="timed rounds per file (default: %(default)s)")
    p.add_argument("--json", type=Path, metavar="FILE")
    p.add_argument("--plot", type=Path, metavar="FILE", help=".png, .svg or .pdf")
    return p


def file_sets(folders: Sequence[str], builtin: bool, limit: int | None) -> dict[str, list[bytes]]:
    """JPEGs' contents by the set's name."""
    sets = {folder: [Path(file).read_bytes() for file in list_jpegs(folder)] for folder in folders}
    if builtin or not folders:
        sets["built-in 500x375"] = builtin_jpegs()
        for package in ("skimage", "sklearn"):
            found = _package_jpegs(package)
            if found:
                sets[f"{package}'s JPEGs"] = found
    return {name: _spread(files, limit) for name, files in sets.items()}


def _package_jpegs(package: str) -> list[bytes]:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        return []
    return [file.read_bytes() for file in sorted(Path(spec.origin).parent.rglob("*.jp*g"))]


def _spread(files: list[bytes], limit: int | None) -> list[bytes]:
    if limit is None or len(files) <= limit:
        return files
    return [files[i] for i in np.linspace(0, len(files) - 1, limit).round().astype(int)]


def text(results: Sequence[StageTimes]) -> str:
    lines = []
    for result in results:
        lines += ["", f"{result.name}: {result.files} files", f"{'':34}  ms/image  images/s/core  x bare read"]
        for method in result.seconds:
            per_file = result.per_file(method)
            to_bare = f"{geometric_mean(result.ratio(method, BARE)):11.2f}" if BARE in result.seconds else ""
            lines.append(f"{method:34}  {per_file.mean() * 1e3:8.3f}  {1 / per_file.mean():13.0f}  {to_bare}")
        shares = ", ".join(f"{step} {share:.0%}" for step, share in result.step_shares().items())
        lines.append(f"steps of '{NATIVE}': {shares}")
    lines += ["", "ratios of times, geometric means (all: over files; sets: over the sets' means)"]
    for ratio in ratio_records(results):
        lines.append(f"{ratio['numerator']} / {ratio['denominator']}, {ratio['set']}: {ratio['geometric_mean']:.3f}")
    return "\n".join(lines[1:])


def ratio_records(results: Sequence[StageTimes]) -> list[dict]:
    records = []
    for method, to in RATIOS:
        if not all(method in r.seconds and (to in r.seconds or to == "fastest RGB") for r in results):
            continue
        values = {result.name: result.ratio(method, to) for result in results}
        if len(results) > 1:
            means = np.array([geometric_mean(v) for v in values.values()])
            values = {"all": np.concatenate(list(values.values())), "sets": means} | values
        records += [
            {"numerator": method, "denominator": to, "set": name, "geometric_mean": geometric_mean(v), **summary(v)}
            for name, v in values.items()
        ]
    return records


def record(args: argparse.Namespace, results: Sequence[StageTimes]) -> dict:
    rows = [
        {
            "set": result.name, "way": method, "files": result.files,
            "ms_per_image": summary(result.per_file(method) * 1e3),
            "images_per_s_per_core": float(1 / result.per_file(method).mean()),
            "stages_share": result.step_shares() if method == NATIVE else {},
        }
        for result in results for method in result.seconds
    ]  # fmt: skip
    about = run_header("eval.jpeg_stage", vars(args))
    return about | {"threads": 1, "results": rows, "ratios": ratio_records(results)}


def draw(results: Sequence[StageTimes], path: Path) -> None:
    """Bars of each method's time over the bare read's, one group per set."""
    names = list(results[0].seconds)
    figure, width = new_figure(8, 0.5 * len(names) + 1.5), 0.8 / len(results)
    (axes,) = bare_axes(figure)
    reference = BARE if BARE in names else NATIVE
    for i, result in enumerate(results):
        places = np.arange(len(names)) + (i - (len(results) - 1) / 2) * width
        axes.barh(places, [geometric_mean(result.ratio(n, reference)) for n in names], width, label=result.name)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"time per image, over that of '{reference}'")
    axes.set_title(f"{machine()['cpu']}, one thread", fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.rounds < 1 or (args.limit is not None and args.limit < 1):
        raise JpegDeepError("--rounds and --limit must be at least 1")
    sets = file_sets(args.images, args.builtin, args.limit)
    with tqdm(total=sum(map(len, sets.values())), unit="file", leave=False, file=sys.stderr) as bar:
        results = [measure(name, files, args.rounds, bar.update) for name, files in sets.items()]
    print(text(results))
    if args.plot:
        draw(results, args.plot)
    if args.json:
        write_json(args.json, record(args, results))


if __name__ == "__main__":
    sys.exit(run_command(main))
