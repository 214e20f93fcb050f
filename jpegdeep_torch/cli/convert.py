"""Converts a checkpoint of Keras or torchvision to one safetensors file, and proves it.

jpegdeep convert FILE.h5                         tells what FILE is, writes FILE.safetensors
jpegdeep convert FILE.pth                        the same, of torchvision's networks
jpegdeep convert FILE.h5 --list                  only says what FILE holds
jpegdeep convert FILE.h5 --to ssd300_vgg16_dct   starts a detector from a classifier
jpegdeep convert FILE.h5 --verify GOLDEN.npz     and compares with stored outputs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelError
from ..inference.classifier import Classifier
from ..inference.detector import Detector
from ..keras.convert import Conversion, convert_keras
from ..keras.original import Settings
from ..keras.report import known_detectors, listing, summary
from ..keras.verify import Check, verify_golden, verify_twin
from ..models import model_config
from ..models.config import ANCHOR_CLIPS, ANCHOR_STEPS
from ..presets import PRESETS
from ..torch_checkpoints.convert import convert_torch, read_state_dict
from ..torch_checkpoints.verify import verify_torchvision
from ..utils.messages import shown
from .command import Parser

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
FLAGS = {  # what says another than was assumed -> its flag
    "mean": "--mean",
    "swap": "--swap",
    "steps": "--steps even",
    "clip": "--clip-boxes",
    "variances": "--variances",
    "epsilon": "--epsilon",
    "scales": "--scales",
    "preset": "--preset",
    "class_names": "--class-names",
}
_TWIN = ""  # --verify without a file


def _parser() -> Parser:
    parser = Parser(prog="jpegdeep convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file", metavar="FILE", help="Keras's, of model.save or save_weights, or a .pth of torchvision's networks"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="default: FILE.safetensors, beside FILE.h5")
    parser.add_argument("--to", metavar="MODEL", help=f"start a detector from FILE's layers: {known_detectors()}")
    # Chose between two ways to the same weights; old commands still have it.
    parser.add_argument("--fc-reduction", choices=("zoom", "subsample"), help=argparse.SUPPRESS)
    parser.add_argument("--preset", choices=list(PRESETS), help="how images are prepared; default: told from FILE")
    parser.add_argument("--scales", metavar="S", help="anchor scales: voc, coco or numbers s1,...,s7 (SSD512: s8)")
    parser.add_argument("--class-names", metavar="NAMES.txt", help="one name a line, label 1 first")
    parser.add_argument("--num-classes", type=int, metavar="N", help="without background, where FILE has no heads")
    said = parser.add_argument_group("what FILE does not say", "or says wrong, of the network that it comes from")
    said.add_argument("--mean", metavar="R,G,B", help="subtracted from pixels: ssd_keras's subtract_mean; 0,0,0: none")
    said.add_argument("--stddev", "--deviation", metavar="R,G,B", help="ssd_keras's divide_by_stddev")
    said.add_argument("--swap", metavar="I,J,K", help="ssd_keras's swap_channels; 0,1,2: none")
    said.add_argument("--steps", choices=ANCHOR_STEPS, help="between anchors; even: ssd_keras's steps=None")
    said.add_argument(
        "--clip-boxes", nargs="?", const="corners", choices=ANCHOR_CLIPS, metavar="HOW",
        help="how anchors are cut to the image (corners, ssd_keras's clip_boxes, where HOW is not given; image, none)",
    )  # fmt: skip
    said.add_argument("--variances", metavar="X,Y,W,H", help="of the anchors")
    said.add_argument("--epsilon", type=float, metavar="E", help="of the batch normalisations")
    parser.add_argument("--list", action="store_true", help="say what FILE holds; convert nothing")
    parser.add_argument("--dry-run", action="store_true", help="check everything; write nothing")
    parser.add_argument(
        "--verify", nargs="?", const=_TWIN, metavar="GOLDEN.npz",
        help="compare the result with stored outputs; without a file, with the original itself: torchvision, or "
             "Keras where TensorFlow is installed",
    )  # fmt: skip
    return parser


def _scales(text: str) -> str | tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if "," in text else text
    except ValueError:
        raise ModelError(f"--scales {text!r}: expected voc, coco or seven numbers") from None


def _numbers(args: argparse.Namespace, name: str, kind: type = float) -> tuple | None:
    text = getattr(args, name)
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise ModelError(f"--{name} {text!r}: expected numbers, separated by commas") from None


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        mean=_numbers(args, "mean"),
        deviation=_numbers(args, "stddev"),
        swap=_numbers(args, "swap", int),
        steps=args.steps,
        clip=args.clip_boxes,
        variances=_numbers(args, "variances"),
        epsilon=args.epsilon,
    )


def _class_names(path: str) -> tuple[str, ...]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--class-names {path}: cannot be read ({error})") from None
    return tuple(line.strip() for line in lines if line.strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Status 1 where a verification fails.  Raises JpegDeepError."""
    args = _parser().parse_args(argv)
    if args.verify is not None and args.dry_run:
        raise ModelError("--verify needs the converted file, which --dry-run does not write")
    if args.verify is not None and args.to is not None:
        raise ModelError(f"--verify: {args.to} started from other layers has no original to compare with")
    if Path(args.file).suffix.lower() in TORCH_SUFFIXES:
        return _convert_torch(args)
    if args.list:
        print(listing(args.file))
        return 0
    done = convert_keras(
        args.file,
        args.output,
        to=args.to,
        preset=args.preset,
        scales=_scales(args.scales) if args.scales else None,
        class_names=_class_names(args.class_names) if args.class_names else None,
        num_classes=args.num_classes,
        settings=_settings(args),
        dry_run=args.dry_run,
        progress=True,
    )
    print(summary(done, FLAGS))
    if args.verify is None:
        return 0
    if args.verify == _TWIN:
        return _report(verify_twin(_predictor(done), done.source))
    _refuse_initial(done)
    return _report(verify_golden(done.output, args.verify, done.raw_pixels, done.variances))


def _convert_torch(args: argparse.Namespace) -> int:
    keras_alone = ("mean", "stddev", "swap", "steps", "clip_boxes", "variances", "epsilon", "scales")
    for name in keras_alone:
        if getattr(args, name) is not None:
            raise ModelError(f"--{name.replace('_', '-')}: is for Keras files")
    if args.verify:
        raise ModelError(f"--verify {args.verify}: a .pth file is compared with torchvision itself, by --verify alone")
    if args.list:
        for name, value in read_state_dict(args.file).items():
            print(f"  {shown(name)}: {'x'.join(map(str, value.shape)) or 'scalar'}")
        return 0
    done = convert_torch(
        args.file,
        args.output,
        to=args.to,
        preset=args.preset,
        class_names=_class_names(args.class_names) if args.class_names else None,
        num_classes=args.num_classes,
        dry_run=args.dry_run,
    )
    print(summary(done, FLAGS))
    return 0 if args.verify is None else _report(verify_torchvision(_predictor(done), done.source))


def _refuse_initial(done: Conversion) -> None:
    if done.initial:
        raise ModelError("--verify: the file has no heads, so there is no original to compare with")


def _predictor(done: Conversion) -> Detector | Classifier:
    """What a user will run."""
    _refuse_initial(done)
    kind = Detector if model_config(done.info.model).task == "detector" else Classifier
    return kind.load(done.output)


def _report(checks: list[Check]) -> int:
    for check in checks:
        print(f"verify:         {check}")
    return 0 if all(check.passed for check in checks) else 1
