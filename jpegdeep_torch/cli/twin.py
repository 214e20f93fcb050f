"""Makes the twin on coefficients of a trained RGB network, from JPEGs without labels.

jpegdeep twin mobilenet_v2 --images DIR -o OUT.safetensors
jpegdeep twin RGB.safetensors --layer LAYER --images DIR DIR -o OUT.safetensors
jpegdeep twin torchvision.models:resnet18 --weights FILE.pth --layer layer2 --images DIR -o OUT.safetensors
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..errors import ModelError
from ..models import Network
from ..models.stems import STEMS
from ..pretrained import create_model
from ..torch_checkpoints.convert import read_state_dict
from ..twins.learning import Progress, TwinConfig
from ..twins.make import TwinResult, make_twin
from ..twins.pictures import Display
from ..twins.report import table_of, write_page
from ..twins.transfer import transfer
from ..utils.environment import run_header
from ..utils.files import write_json
from ..utils.messages import listed, shown
from ..utils.text_table import text_table
from ..weights import load_model
from .command import Parser
from .common import progress_bar

TRANSFER_RATE = 1e-3  # networks without normalisation do not bear more


def _parser() -> Parser:
    p = Parser(prog="jpegdeep twin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "teacher", metavar="TEACHER",
        help="an RGB network's weights file, a name that torchvision has weights of, or MODULE:FUNCTION",
    )  # fmt: skip
    p.add_argument("--weights", metavar="FILE.pth", help="tensors for a network of MODULE:FUNCTION")
    p.add_argument("--images", nargs="+", required=True, metavar="DIR", help="folders with JPEGs; no labels needed")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="the safetensors file to write the stem to")
    p.add_argument("--layer", help="whose output the stem gives, of stride 4, 8 or 16 (default: the network's own)")
    p.add_argument("--deeper", metavar="LAYER", help="a later one, learnt from too (default: the last of stride 16)")
    p.add_argument("--stem", choices=list(STEMS), default="small", help="how large it is (default: %(default)s)")
    p.add_argument("--size", type=int, default=224, metavar="PX", help="of the proof's pictures (default: %(default)s)")
    p.add_argument(
        "--to", metavar="MODEL",
        help="a DCT network such as ssd300_vgg16_dct: takes the layers that are the same, learns the rest",
    )  # fmt: skip
    defaults = TwinConfig()
    learning = p.add_argument_group("learning")
    for flag, value, metavar, text in (
        ("--steps", defaults.steps, "N", ""),
        ("--batch-size", defaults.batch_size, "N", ""),
        ("--crop", defaults.size, "PX", "side of the parts of pictures to learn from, "),
        ("--reuse", defaults.reuse, "N", "how many steps learn from a batch, "),
        ("--seed", defaults.seed, "N", ""),
    ):
        learning.add_argument(flag, type=int, default=value, metavar=metavar, help=f"{text}default: %(default)s")
    learning.add_argument(
        "--rate", type=float, metavar="R",
        help=f"the highest learning rate (default: {defaults.learning_rate}; with --to {TRANSFER_RATE})",
    )  # fmt: skip
    learning.add_argument("--threads", type=int, metavar="N", help="of PyTorch (default: its own choice)")
    p.add_argument("--json", metavar="FILE", help="write the proof's figures there")
    p.add_argument("--report", metavar="DIR", help="write DIR/index.html: figures, both networks' answers on pictures")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    if args.threads is not None:
        if args.threads < 1:
            raise ModelError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
    rate = args.rate or (TRANSFER_RATE if args.to else TwinConfig().learning_rate)
    config = TwinConfig(
        steps=args.steps, batch_size=args.batch_size, size=args.crop, learning_rate=rate, seed=args.seed,
        reuse=args.reuse,
    )  # fmt: skip
    teacher, name = _teacher(args.teacher, args.weights)
    with progress_bar(unit=" steps", total=args.steps, delay=1) as bar:

        def step(progress: Progress) -> None:
            explained = ", ".join(f"{value:.3f}" for value in progress.explained)
            bar.set_postfix(loss=f"{progress.loss:.4f}", explained=explained, refresh=False)
            bar.update(progress.step - bar.n)

        display = Display(say=_say, step=step)
        if args.to:
            _transfer(args, teacher, config, display)
            return
        result = make_twin(
            teacher, args.images, args.output, layer=args.layer, deeper=args.deeper, stem=args.stem, name=name,
            size=args.size, config=config, display=display,
        )  # fmt: skip
    _tell(args, result)


def _tell(args: argparse.Namespace, result: TwinResult) -> None:
    proof = result.proof
    print(text_table(table_of(proof)))
    print(
        f"{proof.teacher_ms:.1f} ms an image by {result.info.teacher}, {proof.twin_ms:.1f} by its twin: "
        f"{proof.teacher_ms / proof.twin_ms:.2f} times as fast"
    )
    print(result.output)
    if args.json:
        figures = dataclasses.asdict(proof)
        del figures["answers"]
        write_json(args.json, run_header("twin", vars(args)) | {"results": [figures]})
    if args.report:
        print(write_page(args.report, result, vars(args)))


def _transfer(args: argparse.Namespace, teacher: nn.Module, config: TwinConfig, display: Display) -> None:
    given = [name for name in ("layer", "deeper", "report") if getattr(args, name) is not None]
    if given or not isinstance(teacher, Network):
        raise ModelError(f"--to: not with {f'--{given[0]}' if given else 'a network of MODULE:FUNCTION'}")
    result = transfer(teacher, args.to, args.images, args.output, config=config, display=display)
    proof = result.proof
    explained = ", ".join(f"{value:.4f}" for value in proof.explained)
    print(f"explained variance of the feature maps, on {proof.images} held-out pictures: {explained}")
    if proof.found is not None:
        print(f"the teacher's answers found again: {proof.found:.4f}")
    print(result.output)
    if args.json:
        write_json(args.json, run_header("twin", vars(args)) | {"results": [dataclasses.asdict(proof)]})


def _teacher(text: str, weights: str | None) -> tuple[nn.Module, str]:
    """(the network, what to call it)."""
    place, colon, function = text.partition(":")
    if colon and not Path(text).exists():
        return _made(place, function, weights), text
    if weights is not None:
        raise ModelError(f"--weights: is for a network of MODULE:FUNCTION, not for {text}")
    if text.endswith(".safetensors") or Path(text).is_file():
        network = load_model(text)
    else:
        network = create_model(text, weights="torchvision").eval()
    if network.config.is_dct:
        raise ModelError(f"{text}: is {network.config.name}, which takes coefficients; expected an RGB network")
    return network, network.config.name


def _made(module: str, function: str, weights: str | None) -> nn.Module:
    try:
        network = getattr(importlib.import_module(module), function)()
    except Exception as error:  # whatever somebody else's code raises
        raise ModelError(f"{module}:{function}: cannot be made ({type(error).__name__}: {shown(error)})") from None
    if not isinstance(network, nn.Module):
        raise ModelError(f"{module}:{function}: gives a {type(network).__name__}, expected a torch.nn.Module")
    if weights is not None:
        try:
            network.load_state_dict(read_state_dict(weights))
        except RuntimeError as error:
            raise ModelError(
                f"{weights}: does not fit {module}:{function}: {listed(str(error).splitlines()[1:])}"
            ) from None
    return network


def _say(line: str) -> None:
    print(line, file=sys.stderr)
