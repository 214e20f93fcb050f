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
from ..models.stems import STEMS
from ..torch_checkpoints import create_model
from ..torch_checkpoints.convert import read_state_dict
from ..twins.learning import Progress, TwinConfig
from ..twins.make import Display, make_twin
from ..twins.report import write_page
from ..utils.environment import run_header
from ..utils.files import write_json
from ..utils.messages import listed, shown
from ..utils.text_table import text_table
from ..weights import load_model
from .command import Parser
from .common import progress_bar


def _parser() -> Parser:
    p = Parser(prog="jpegdeep twin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "teacher", metavar="TEACHER",
        help="an RGB network's weights file; a name that torchvision has weights of; or MODULE:FUNCTION, which makes one",
    )  # fmt: skip
    p.add_argument("--weights", metavar="FILE.pth", help="tensors for a network of MODULE:FUNCTION")
    p.add_argument("--images", nargs="+", required=True, metavar="DIR", help="folders with JPEGs; no labels needed")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="the safetensors file to write the stem to")
    p.add_argument("--layer", help="whose output the stem gives, of stride 4, 8 or 16 (default: the network's own)")
    p.add_argument("--deeper", metavar="LAYER", help="a later one, learnt from too (default: the last of stride 16)")
    p.add_argument("--stem", choices=list(STEMS), default="small", help="how large it is (default: %(default)s)")
    p.add_argument("--size", type=int, default=224, metavar="PX", help="of the proof's pictures (default: %(default)s)")
    defaults = TwinConfig()
    learning = p.add_argument_group("learning")
    learning.add_argument("--steps", type=int, default=defaults.steps, metavar="N", help="default: %(default)s")
    learning.add_argument("--batch-size", type=int, default=defaults.batch_size, metavar="N", help="default: %(default)s")
    learning.add_argument("--crop", type=int, default=defaults.size, metavar="PX", help="parts of pictures to learn from (default: %(default)s)")  # fmt: skip
    learning.add_argument("--rate", type=float, default=defaults.learning_rate, help="the highest (default: %(default)s)")
    learning.add_argument("--reuse", type=int, default=defaults.reuse, metavar="N", help="steps that learn from a batch (default: %(default)s)")  # fmt: skip
    learning.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")
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
    config = TwinConfig(
        steps=args.steps, batch_size=args.batch_size, size=args.crop, learning_rate=args.rate, seed=args.seed,
        reuse=args.reuse,
    )
    teacher, name = _teacher(args.teacher, args.weights)
    with progress_bar(unit=" steps", total=args.steps, delay=1) as bar:

        def step(progress: Progress) -> None:
            explained = ", ".join(f"{value:.3f}" for value in progress.explained)
            bar.set_postfix(loss=f"{progress.loss:.4f}", explained=explained, refresh=False)
            bar.update(progress.step - bar.n)

        result = make_twin(
            teacher, args.images, args.output, layer=args.layer, deeper=args.deeper, stem=args.stem, name=name,
            size=args.size, config=config, display=Display(say=_say, step=step),
        )  # fmt: skip
    proof = result.proof
    rows = [dataclasses.asdict(agreement) for agreement in proof.agreements]
    print(text_table([
        {"pictures": row["images"], "quality": row["quality"] or "own", "explained variance": row["explained"],
         "same class": "-" if row["top1"] is None else row["top1"]} for row in rows
    ]))  # fmt: skip
    ratio = proof.teacher_ms / proof.twin_ms
    print(f"{proof.teacher_ms:.1f} ms an image by {result.info.teacher}, {proof.twin_ms:.1f} by its twin: {ratio:.2f} times as fast")  # fmt: skip
    print(result.output)
    if args.json:
        figures = {"agreements": rows, "teacher_ms": proof.teacher_ms, "twin_ms": proof.twin_ms}
        write_json(args.json, run_header("twin", vars(args)) | {"results": [figures]})
    if args.report:
        print(write_page(args.report, result, vars(args)))


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
            raise ModelError(f"{weights}: does not fit {module}:{function}: {listed(str(error).splitlines()[1:])}") from None
    return network


def _say(line: str) -> None:
    print(line, file=sys.stderr)
