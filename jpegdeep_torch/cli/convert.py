"""Converts a Keras checkpoint of jpeg_deep or ssd_keras to one safetensors file, and proves it.

jpegdeep convert FILE.h5                         tells what FILE is, writes FILE.safetensors
jpegdeep convert FILE.h5 --list                  only says what FILE holds
jpegdeep convert FILE.h5 --to ssd300_vgg16_dct   starts a detector from a classifier
jpegdeep convert FILE.h5 --verify GOLDEN.npz     and compares with stored outputs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelError
from ..keras.convert import convert_keras
from ..keras.report import known_detectors, listing, summary
from ..keras.verify import verify_golden, verify_twin
from ..presets import PRESETS
from .command import Parser

_TWIN = ""  # --verify without a file


def _scales(text: str) -> str | tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if "," in text else text
    except ValueError:
        raise ModelError(f"--scales {text!r}: expected voc, coco or seven numbers") from None


def _class_names(path: str) -> tuple[str, ...]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--class-names {path}: cannot be read ({error})") from None
    return tuple(line.strip() for line in lines if line.strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Status 1 where a verification fails.  Raises JpegDeepError."""
    parser = Parser(prog="jpegdeep convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE.h5", help="of model.save or save_weights")
    parser.add_argument("-o", "--output", metavar="OUT", help="default: FILE.safetensors, beside FILE.h5")
    parser.add_argument("--to", metavar="MODEL", help=f"start a detector from FILE's layers: {known_detectors()}")
    # Chose between two ways to the same weights; old commands still have it.
    parser.add_argument("--fc-reduction", choices=("zoom", "subsample"), help=argparse.SUPPRESS)
    parser.add_argument("--preset", choices=list(PRESETS), help="how images are prepared; default: told from FILE")
    parser.add_argument("--scales", metavar="S", help="anchor scales: voc, coco or seven numbers s1,...,s7")
    parser.add_argument("--class-names", metavar="NAMES.txt", help="one name per line, label 1 first")
    parser.add_argument("--num-classes", type=int, metavar="N", help="without background, where FILE has no heads")
    parser.add_argument("--list", action="store_true", help="say what FILE holds; convert nothing")
    parser.add_argument("--dry-run", action="store_true", help="check everything; write nothing")
    parser.add_argument(
        "--verify", nargs="?", const=_TWIN, metavar="GOLDEN.npz",
        help="compare the result with stored outputs, or with Keras itself where TensorFlow is installed",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.list:
        print(listing(args.file))
        return 0
    if args.verify is not None and args.dry_run:
        raise ModelError("--verify needs the converted file, which --dry-run does not write")
    if args.verify is not None and args.to is not None:
        raise ModelError(f"--verify: {args.to} started from other layers has no original to compare with")
    done = convert_keras(
        args.file, args.output, to=args.to, preset=args.preset, scales=_scales(args.scales) if args.scales else None,
        class_names=_class_names(args.class_names) if args.class_names else None, num_classes=args.num_classes,
        dry_run=args.dry_run, progress=True,
    )  # fmt: skip
    print(summary(done))
    if args.verify is None:
        return 0
    if done.initial:
        raise ModelError("--verify: the file has no heads, so there is no original to compare with")
    if args.verify == _TWIN:
        checks = verify_twin(done.output, done.source, done.raw_pixels)
    else:
        checks = verify_golden(done.output, args.verify, done.raw_pixels)
    for check in checks:
        print(f"verify:         {check}")
    return 0 if all(check.passed for check in checks) else 1
