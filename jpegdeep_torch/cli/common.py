"""Arguments and habits that the predicting and evaluating commands share."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..backends import PRECISIONS, list_backends
from ..errors import DatasetError, ModelError
from ..inference.classifier import Classifier
from ..inference.detector import Detector
from ..inference.predictor import Predictor
from ..jpeg import ReadOptions, WarningCounts
from ..jpeg.options import DEFAULT_OPTIONS, ON_DAMAGE, ORIENTATIONS
from ..jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER
from ..utils.messages import shown
from .command import Parser, add_coefficients_argument


def predictor_parser(prog: str, doc: str) -> Parser:
    """A Parser with WEIGHTS, and with how the network runs and how it is fed; `doc`: the command's docstring."""
    p = Parser(prog=prog, description=doc.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a safetensors file, or a name (jpegdeep models)")
    group = p.add_argument_group("running")
    group.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    group.add_argument("--backend", default="torch", help=f"one of {', '.join(list_backends())}")
    group.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    group.add_argument("--batch-size", type=int, default=8, metavar="N")
    group.add_argument("--workers", type=int, metavar="N", help="processes that read JPEGs, 0 for none")
    group.add_argument("--threads", type=int, metavar="N", help="of PyTorch (default: its own choice)")
    add_coefficients_argument(group)
    group.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    add_read_arguments(p)
    return p


def add_read_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `read_options` makes a ReadOptions of."""
    group = parser.add_argument_group("reading JPEGs")
    group.add_argument("--on-damage", choices=ON_DAMAGE, default=DEFAULT_OPTIONS.on_damage,
                       help="error: refuse files that part of the picture is missing from; strict: also what libjpeg "
                       "warns of, and CMYK; tolerate: take what there is (default: %(default)s)")  # fmt: skip
    group.add_argument("--orientation", choices=ORIENTATIONS, default=DEFAULT_OPTIONS.orientation,
                       help="apply: turn pictures as EXIF says; stored: leave them (default: %(default)s)")  # fmt: skip
    group.add_argument("--max-memory-mb", type=_megabytes, metavar="MB", default=DEFAULT_OPTIONS.max_memory_mb,
                       help="refuse pictures that take more to decode (default: %(default)g)")  # fmt: skip


def read_options(args: argparse.Namespace) -> ReadOptions:
    """What the arguments of `add_read_arguments` ask for."""
    return ReadOptions(args.on_damage, args.orientation, args.max_memory_mb)


def _megabytes(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected more than 0")
    return number


def load(kind: type[Detector] | type[Classifier], args: argparse.Namespace, **options: Any) -> Any:
    """The Detector or Classifier that the arguments of `predictor_parser` describe."""
    if args.threads is not None:
        if args.threads < 1:
            raise ModelError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return kind.load(
        args.weights, device, args.backend, coefficients=args.coefficients, precision=args.precision,
        batch_size=args.batch_size, workers=args.workers, decoder=args.decoder,
        read_options=read_options(args), **options,
    )  # fmt: skip


def progress_bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A bar on stderr, images/s included; in a log, a line every half minute and at the end."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(iterable, file=sys.stderr, mininterval=interval, dynamic_ncols=True, **{"unit": " images", **options})


def print_warnings(warnings: WarningCounts) -> None:
    """Says on stderr what was unusual about the files of a run, a line for each kind."""
    for line in warnings.summary():
        print(shown(line, most=None), file=sys.stderr)


def limited(items: list[Any], limit: int | None) -> list[Any]:
    """The first `limit`; all for None."""
    if limit is not None and limit < 1:
        raise DatasetError(f"--limit {limit}: expected at least 1")
    return items[:limit]


def run_settings(args: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """What a record says of the run beside its arguments."""
    return {
        "model": predictor.config.name, "weights": str(Path(args.weights)), "backend": predictor.runner.info.name,
        "device": str(predictor.device), "precision": predictor.runner.precision, "batch_size": predictor.batch_size,
        "preset": predictor.preset.name,
        "coefficients": predictor.preset.coefficients if predictor.config.is_dct else None,
        **dataclasses.asdict(predictor.reader.options),
    }  # fmt: skip
