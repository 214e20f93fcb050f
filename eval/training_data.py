"""What augmented training data cost, from files to batches: coefficients, pixels, and pixels compressed again.

python -m eval.training_data VOC_ROOT --set train
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from eval.benchmark.jpeg_stage import geometric_mean
from eval.benchmark.statistics import summary
from eval.benchmark.training_data import DataTimes, measure
from jpegdeep_torch.cli.command import Parser, run_command
from jpegdeep_torch.cli.common import limited
from jpegdeep_torch.data.annotations import DatasetIssues
from jpegdeep_torch.data.voc import class_names_in, find_voc_folder, read_voc
from jpegdeep_torch.errors import DatasetError, ModelError
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from jpegdeep_torch.training.augmentation import AugmentationConfig
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.utils.files import write_json
from jpegdeep_torch.utils.text_table import text_table

RATIOS = (("native", "reencode"), ("pixels", "reencode"), ("native", "pixels"))
RECIPES = {
    "SSD recipe": AugmentationConfig(),
    "geometry alone": AugmentationConfig(
        brightness_probability=0, contrast_probability=0, saturation_probability=0, hue_probability=0
    ),
    "no augmentation": AugmentationConfig.none(),
}


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.training_data", description=__doc__.splitlines()[0])
    p.add_argument("root", metavar="VOC_ROOT", help="with VOCdevkit/VOC2007, VOC2007, or Annotations itself in it")
    p.add_argument("--year", help="of a VOCdevkit: 2007, 2012")
    p.add_argument(
        "--set", dest="image_set", default="train", help="of ImageSets/Main, or 'all' (default: %(default)s)"
    )
    p.add_argument("--model", default="ssd300_vgg16_dct", help="a DCT detector (default: %(default)s)")
    p.add_argument("--batch-size", type=int, default=8, metavar="N")
    p.add_argument("--rounds", type=int, default=6, help="timed rounds through the set (default: %(default)s)")
    p.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    p.add_argument("--lenient", action="store_true", help="leave out what is wrong with the data set and go on")
    p.add_argument("--json", type=Path, metavar="FILE")
    return p


def ratio_records(results: Sequence[DataTimes]) -> list[dict]:
    return [
        {"numerator": name, "denominator": to, "recipe": result.name,
         "geometric_mean": geometric_mean(result.ratio(name, to)), **summary(result.ratio(name, to))}
        for result in results for name, to in RATIOS
    ]  # fmt: skip


def record(args: argparse.Namespace, results: Sequence[DataTimes]) -> dict:
    rows = [
        {"recipe": result.name, "coefficients": name, "images": result.images, "batch_size": result.batch_size,
         "ms_per_image": {"mean": float(ms.mean()), **summary(ms.reshape(-1))}}
        for result in results for name, ms in result.ms.items()
    ]  # fmt: skip
    about = run_header("eval.training_data", vars(args))
    return about | {"threads": 1, "results": rows, "ratios": ratio_records(results)}


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.rounds < 1 or args.batch_size < 1:
        raise DatasetError("--rounds and --batch-size must be at least 1")
    config = model_config(args.model)
    if config.task != "detector" or not config.is_dct:
        raise ModelError(f"--model {args.model}: expected a detector that takes coefficients")
    problems = DatasetIssues(args.lenient)
    names = class_names_in(find_voc_folder(args.root, args.year))
    images = limited(read_voc(args.root, args.image_set, names, args.year, problems), args.limit)
    results = []
    with tqdm(total=len(RECIPES) * (args.rounds + 1), unit=" rounds", leave=False, file=sys.stderr) as bar:
        for name, recipe in RECIPES.items():
            options = {"batch_size": args.batch_size, "rounds": args.rounds, "on_round": bar.update}
            results.append(measure(name, images, config, get_preset("voc"), recipe, **options))
    made = record(args, results)
    print(text_table([
        {"recipe": row["recipe"], "coefficients": row["coefficients"], "ms/image": row["ms_per_image"]["mean"]}
        for row in made["results"]
    ]))  # fmt: skip
    print("\nratios of times on the same images and draws, geometric means")
    for ratio in made["ratios"]:
        print(f"{ratio['numerator']} / {ratio['denominator']}, {ratio['recipe']}: {ratio['geometric_mean']:.3f}")
    for line in problems.summary():
        print(line, file=sys.stderr)
    if args.json:
        write_json(args.json, made)


if __name__ == "__main__":
    sys.exit(run_command(main))
