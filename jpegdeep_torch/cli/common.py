"""Arguments and habits that the predicting and evaluating commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..backends import PRECISIONS, list_backends
from ..data.annotations import AnnotatedImage, DatasetIssues
from ..errors import DatasetError, ModelError
from ..evaluation.matching import ClassMatches
from ..evaluation.records import Record, make_record
from ..evaluation.report import false_positives, misses, write_report
from ..inference.detector import Detector
from ..inference.predictor import Predictor
from ..jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER
from ..utils.files import write_json
from .command import Parser, add_coefficients_argument


def predictor_parser(prog: str, doc: str) -> Parser:
    """A Parser with WEIGHTS, and with how the network runs and how it is fed; `doc`: the command's docstring."""
    p = Parser(prog=prog, description=doc.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a safetensors file")
    group = p.add_argument_group("running")
    group.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    group.add_argument("--backend", default="torch", help=f"one of {', '.join(list_backends())}")
    group.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    group.add_argument("--batch-size", type=int, default=8, metavar="N")
    group.add_argument("--workers", type=int, metavar="N", help="processes that read JPEGs, 0 for none")
    group.add_argument("--threads", type=int, metavar="N", help="of PyTorch (default: its own choice)")
    add_coefficients_argument(group)
    group.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    return p


def evaluation_parser(prog: str, doc: str, root: str, root_help: str) -> Parser:
    """`predictor_parser` with the data set's folder, and where the outcome goes."""
    p = predictor_parser(prog, doc)
    p.add_argument("root", metavar=root, help=root_help)
    p.add_argument("--json", metavar="FILE", help="write figures and samples there, for `compare` too")
    p.add_argument("--report", metavar="DIR", help="write DIR/index.html: figures, plots, the worst mistakes")
    p.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    p.add_argument("--lenient", action="store_true", help="count what is wrong with the data set and go on")
    return p


def load(kind: type[Predictor], args: argparse.Namespace, **options: Any) -> Any:
    """The Detector or Classifier that the arguments of `predictor_parser` describe."""
    if args.threads is not None:
        if args.threads < 1:
            raise ModelError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return kind.load(
        args.weights, device, args.backend, coefficients=args.coefficients, precision=args.precision,
        batch_size=args.batch_size, workers=args.workers, decoder=args.decoder, **options,
    )  # fmt: skip


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A bar on stderr, images/s included; in a log, a line every half minute and at the end."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(iterable, file=sys.stderr, mininterval=interval, dynamic_ncols=True, **{"unit": " images", **options})


def limited(items: list[Any], limit: int | None) -> list[Any]:
    """The first `limit`; all for None."""
    if limit is not None and limit < 1:
        raise DatasetError(f"--limit {limit}: expected at least 1")
    return items[:limit]


def predict_all(
    predictor: Predictor, paths: list[Path], issues: DatasetIssues, desc: str
) -> tuple[list[int], list[dict[str, Any]]]:
    """(indices of the images that can be read, what was found in each); the others go to `issues`."""
    indices, found = [], []
    for prediction in progress_bar(predictor.stream(paths, on_error="report"), total=len(paths), desc=desc):
        if prediction.error is not None:
            issues.report("unreadable picture", str(prediction.error))
        else:
            indices.append(prediction.index)
            found.append(prediction.value)
    if not found:
        raise DatasetError("no picture of the data set can be read")
    return indices, found


def detect_all(
    detector: Detector, images: list[AnnotatedImage], issues: DatasetIssues
) -> tuple[list[AnnotatedImage], list[Any]]:
    """(images, detections) of those images that can be read; the others go to `issues`."""
    indices, found = predict_all(detector, [image.path for image in images], issues, "detecting")
    return [images[index] for index in indices], found


def detector_galleries(
    images: list[AnnotatedImage], matches: list[ClassMatches], class_names: list[str]
) -> list[tuple[str, Any]]:
    """A report's images of the worst mistakes."""
    false = false_positives(images, matches, class_names)
    missed = misses(images, matches, class_names)
    return [
        ("Surest false detections at IoU 0.5 (the nearest object in white)", false),
        ("Largest objects missed at IoU 0.5", missed),
    ]


def run_settings(args: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """What a record says of the run beside its arguments."""
    return {
        "model": predictor.config.name, "weights": str(Path(args.weights)), "backend": predictor.runner.info.name,
        "device": str(predictor.device), "precision": predictor.runner.precision, "batch_size": predictor.batch_size,
        "preset": predictor.preset.name,
        "coefficients": predictor.preset.coefficients if predictor.config.is_dct else None,
    }  # fmt: skip


def finish(
    command: str,
    args: argparse.Namespace,
    predictor: Predictor,
    figures_and_samples: tuple[Record, Record],
    issues: DatasetIssues,
    page: Callable[[], dict[str, Any]],
) -> None:
    """Writes the JSON and the report that were asked for, and says what was wrong with the data.

    page: gives `write_report`'s arguments but for the settings.
    """
    figures, samples = figures_and_samples
    figures = {**figures, **run_settings(args, predictor), "problems": dict(issues.counts)}
    record = make_record(command, vars(args), figures, samples)
    for line in issues.summary():
        print(line, file=sys.stderr)
    if args.json:
        write_json(args.json, record)
    if args.report:
        settings = {"command": command} | {k: v for k, v in figures.items() if k not in ("classes", "figures")}
        settings |= {f"--{k.replace('_', '-')}": v for k, v in record["arguments"].items() if v is not None}
        settings |= record["machine"] | record["versions"]
        print(write_report(args.report, settings=settings, **page()))
