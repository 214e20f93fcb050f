"""Detect objects in JPEG files: JSON Lines or COCO results, and pictures with the boxes drawn in.

jpegdeep predict WEIGHTS photos/ -o out

WEIGHTS is a file, or a name of `jpegdeep models`.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from ..data.annotation_lookup import AUTO, GroundTruth
from ..data.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from ..data.mjpeg import Frame, is_address, is_stream
from ..data.shards import is_shard
from ..errors import DatasetError, ModelError
from ..inference import writer
from ..inference.detector import Detector
from ..inference.sources import expand_sources
from ..inference.tiles import TiledDetector
from ..inference.writer import PredictionSummary
from ..jpeg.reader import Source
from ..pretrained import weights_file
from ..utils.files import make_folder, sha256_of
from ..utils.settings import check_settings
from .common import load, predictor_parser, print_warnings, progress_bar, run_settings
from .predict_shards import predict_shards_to


def main(argv: Sequence[str] | None = None) -> int | None:
    p = predictor_parser("jpegdeep predict", __doc__)
    p.add_argument("inputs", nargs="+", metavar="INPUT",
                   help="files, folders (all JPEGs below), patterns in quotes, streams of frames (.mjpeg, .avi, an "
                   "http address), or - for a list on stdin")  # fmt: skip
    p.add_argument("-o", "--output", metavar="DIR", help="a folder (default: results to standard output)")
    p.add_argument("--format", choices=("jsonl", "coco", "parquet"), default="jsonl",
                   help="of the results; DIR has detections.jsonl in any case, but for parquet: a file for each INPUT, "
                   "which may be tar shards, 's3://bucket/{0000..0999}.tar', too (docs/scale.md)")  # fmt: skip
    p.add_argument("--pictures", choices=("none", "jpeg", "png"), default="jpeg", help="drawn into DIR/pictures")
    p.add_argument("--show-truth", action="store_true",
                   help="draw the annotation beside: VOC XML beside the picture or in ../Annotations")  # fmt: skip
    p.add_argument("--truth", metavar="PATH", help="a folder of VOC XML, or a COCO JSON, to draw the annotation from")
    p.add_argument("--sheet", action="store_true", help="contact sheets of the pictures as well")
    p.add_argument("--score", type=float, help="keep scores of at least this (default: 0.5)", default=0.5)
    p.add_argument("--top", type=int, metavar="N", help="keep an image's best N")
    p.add_argument("--classes", nargs="+", metavar="CLASS", help="keep these classes")
    p.add_argument("--tiles", type=int, metavar="N",
                   help="look at NxN overlapping windows as well, for small objects in large photographs")  # fmt: skip
    p.add_argument("--strict", action="store_true", help="stop at the first file that cannot be read")
    p.add_argument("--overwrite", action="store_true", help="start anew where DIR has a run already")
    args = p.parse_args(argv)
    if args.top is not None and args.top < 1:
        raise ModelError(f"--top {args.top}: expected at least 1")
    if not args.output and (args.show_truth or args.truth or args.sheet):
        raise ModelError("--show-truth, --truth and --sheet make pictures: they need -o DIR")
    if args.format == "parquet" or any(map(is_shard, args.inputs)):
        return predict_shards_to(args, labels=_labels)
    _check_inputs(args.inputs)
    detector = load(Detector, args)
    if args.tiles is not None:
        detector = TiledDetector(detector, args.tiles)
    labels = _labels(args.classes, detector.class_names)
    options = {"selection": writer.Selection(args.score, args.top, labels), "strict": args.strict}
    category_ids = list(COCO_CATEGORY_IDS)
    if tuple(detector.class_names) != COCO_CLASSES:
        category_ids = list(range(1, len(detector.class_names) + 1))
    summary = (_to_folder if args.output else _to_stdout)(args, detector, category_ids, options)
    done = f", {summary.done_before} of an earlier run" if summary.done_before else ""
    done += f", {summary.dropped} frames dropped" if summary.dropped else ""
    drawn = f", {len(summary.not_drawn)} not drawn" if summary.not_drawn else ""
    print_warnings(summary.warnings)
    print(f"{summary.images} images{done}; {len(summary.failed)} could not be read{drawn}", file=sys.stderr)
    return None


def _labels(names: list[str] | None, class_names: list[str]) -> tuple[int, ...] | None:
    if names is None:
        return None
    if unknown := [name for name in names if name not in class_names]:
        raise ModelError(f"--classes {' '.join(unknown)}: unknown, expected some of {', '.join(class_names)}")
    return tuple(class_names.index(name) + 1 for name in names)


def _check_inputs(patterns: Sequence[str]) -> None:
    """DatasetError for an input that is not there or has no JPEG in it, before any network is loaded.

    A missing file of a list on standard input is one bad file among others.
    """
    for pattern in patterns:
        if pattern == "-" or (is_stream(pattern) and not os.path.isdir(pattern)):
            continue
        first = next(_inputs([pattern]), None)
        if first is None:
            wrong = "no JPEG in this folder or below" if os.path.isdir(pattern) else "fits no file"
        elif first == pattern and not os.path.lexists(pattern):
            wrong = "no such file or folder"
        else:
            continue
        raise DatasetError(f"{pattern}: {wrong}")


def _inputs(patterns: Sequence[str]) -> Iterator[Source | Frame]:
    """All files meant, lazily."""
    for pattern in patterns:
        if pattern == "-":
            for line in sys.stdin:
                if name := line.rstrip("\n"):
                    yield from expand_sources(name)
        elif not os.path.lexists(pattern) and not is_address(pattern) and glob.has_magic(pattern):
            yield from expand_sources(sorted(glob.glob(pattern, recursive=True)))
        else:
            yield from expand_sources(pattern)


def _shown(predict: Callable[..., PredictionSummary], *arguments: Any, **options: Any) -> PredictionSummary:
    """Calls `predict` with a progress bar and bad files told above it."""
    with progress_bar(desc="detecting") as bar:
        options["on_error"] = lambda name, reason: bar.write(f"{name}: {reason}", file=sys.stderr)
        return predict(*arguments, progress=bar.update, **options)


def _to_folder(
    args: argparse.Namespace, detector: Detector | TiledDetector, category_ids: list[int], options: dict[str, Any]
) -> PredictionSummary:
    folder = make_folder(args.output)
    drawing = None
    if args.pictures != "none":
        ground_truth = None
        if args.truth or args.show_truth:
            ground_truth = GroundTruth(args.truth or AUTO, options=detector.reader.options)
        drawing = writer.DrawingOptions(folder / writer.PICTURES, args.pictures, ground_truth)
    with weights_file(args.weights, task=Detector.task) as file:
        sha256 = sha256_of(file)
    plain = detector.detector if isinstance(detector, TiledDetector) else detector
    settings = run_settings(args, plain) | {
        "weights_sha256": sha256, "score": args.score, "top": args.top, "classes": args.classes,
        "pictures": args.pictures, "show_truth": args.show_truth, "truth": args.truth, "decoder": args.decoder,
    }  # fmt: skip
    if args.tiles is not None:  # a run of an earlier version, which had none, may be gone on with
        settings["tiles"] = args.tiles
    check_settings(folder / "run.json", settings, args.overwrite)
    options |= {"drawing": drawing, "overwrite": args.overwrite}
    summary = _shown(writer.predict_to_folder, detector, _inputs(args.inputs), folder, **options)
    written = [folder / writer.RESULTS]
    if args.format == "coco":
        written.append(writer.write_coco(folder, category_ids))
    if args.sheet and drawing is not None:
        written += writer.write_contact_sheets(folder, drawing)
    print(*written, sep="\n")
    return summary


def _to_stdout(
    args: argparse.Namespace, detector: Detector | TiledDetector, category_ids: list[int], options: dict[str, Any]
) -> PredictionSummary:
    with writer.json_list(sys.stdout.write) if args.format == "coco" else nullcontext() as add:

        def write(lines: list[dict[str, Any]]) -> None:
            for line in lines:
                add(writer.to_coco(line, category_ids)) if add else print(json.dumps(line))
            sys.stdout.flush()

        return _shown(writer.predict, detector, _inputs(args.inputs), write, **options)
