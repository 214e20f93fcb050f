"""Where the time goes on this machine: networks, backends, batch sizes, workers and ways to coefficients in one study.

python -m eval.study -o study --minutes 20
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Sequence

import torch
from tqdm import tqdm

from eval.peers import PEERS, make_timed_peer
from eval.study.images import MOST, Pictures, builtin_pictures, pictures_of
from eval.study.matrix import ROUNDS, Matrix, Setting, Study
from eval.study.run import PARTS, has_figures, measure_study, unmeasured, write_outcome
from jpegdeep_torch.backends import PRECISIONS, chosen_device, get_backend, list_backends
from jpegdeep_torch.cli.command import Parser, add_coefficients_argument, run_command
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.inference.predictor import default_workers
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.weights import read_info

DEFAULT_MODELS = ("ssd300_vgg16", "ssd300_vgg16_dct")
BATCH_SIZES = {"cpu": (1, 8, 32), "cuda": (8, 32, 128)}
SECONDS = 4.0


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m eval.study", description=__doc__.splitlines()[0])
    p.add_argument("-o", "--output", required=True, metavar="DIR", help="a study's folder: a new one, or one to go on")
    p.add_argument("--minutes", type=float, metavar="M", help="begin nothing that would end later (default: no limit)")
    p.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="(default: all)")
    p.add_argument("--images", metavar="DIR", help="JPEG files (default: 32 built-in photographs)")
    p.add_argument("--limit", type=int, default=MOST, metavar="N",
                   help="of a folder's files, spread evenly over it (default: %(default)s)")  # fmt: skip
    p.add_argument("--weights", nargs="+", default=[], metavar="FILE",
                   help="safetensors files, whose networks take part; other networks get seeded weights")  # fmt: skip
    p.add_argument("--models", nargs="+", metavar="MODEL",
                   help=f"ratios are to the first on pixels (default: {' '.join(DEFAULT_MODELS)})")  # fmt: skip
    p.add_argument("--backends", nargs="+", default=["torch"], metavar="BACKEND",
                   help=f"of {', '.join(list_backends())}; the first is the base (default: torch)")  # fmt: skip
    p.add_argument("--batch-sizes", type=int, nargs="+", metavar="N",
                   help="default: 1 8 32 on a CPU, 8 32 128 on a GPU")  # fmt: skip
    p.add_argument("--base-batch", type=int, default=8, metavar="N", help="where all is compared (default: 8)")
    p.add_argument("--workers", type=int, nargs="+", metavar="N",
                   help="processes that read JPEGs; the first is the base (default: 1 0 2 on a CPU)")  # fmt: skip
    add_coefficients_argument(p, "--presets", several=True)
    p.add_argument("--peers", nargs="+", default=[], metavar="PEER", help=PEERS)
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    p.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    p.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    p.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    p.add_argument("--seconds", type=float, default=SECONDS,
                   help=f"a run, at least {ROUNDS} rounds (default: %(default)s)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    started = time.monotonic()
    _check(args)
    pictures = _pictures(args)
    for reason in pictures.left_out:
        print(f"left out: {reason}", file=sys.stderr)
    study = make_study(args, pictures)
    deadline = None if args.minutes is None else started + args.minutes * 60
    command = f"python -m eval.study {shlex.join(sys.argv[1:] if argv is None else argv)}"
    to_do = unmeasured(study, args.parts)
    try:
        with tqdm(total=len(to_do), desc="study", unit="part", file=sys.stderr) as bar:

            def show(step: str) -> None:
                bar.set_description(step)
                bar.update(len(to_do) - len(unmeasured(study, args.parts)) - bar.n)

            left = measure_study(study, args.parts, deadline, show, bar.refresh)
            bar.update(len(to_do) - len(left) - bar.n)
    finally:  # also of a study that was stopped, or in which something failed
        if has_figures(study):
            write_outcome(study, run_header("eval.study", vars(args)), command, args.parts, pictures.left_out)
    if left:
        print(f"no time for {', '.join(left)}: the same command goes on with them", file=sys.stderr)
    print(study.folder / "README.md")


def _check(args: argparse.Namespace) -> None:
    """ModelError, BackendUnavailable for what can be told from the arguments alone."""
    for backend in args.backends:
        get_backend(backend).require(chosen_device(args.device))
    if not all(0 <= value < math.inf for value in (args.seconds, args.minutes or 0.0)):
        raise ModelError("--seconds and --minutes must be 0 or more, and finite")
    for name in ("limit", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ModelError(f"--{name} {value}: expected at least 1")


def make_study(args: argparse.Namespace, pictures: Pictures) -> Study:
    """The study that the arguments describe; JpegDeepError for what cannot be, before anything is measured."""
    device = chosen_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    base_workers = default_workers(device)
    matrix = Matrix(
        _models(args), tuple(args.backends), tuple(args.batch_sizes or BATCH_SIZES[torch.device(device).type]),
        args.base_batch, tuple(args.coefficients),
        tuple(args.workers or dict.fromkeys((base_workers, 0, 2 * base_workers))),
    )  # fmt: skip
    return Study(
        args.output, matrix,
        Setting(device, args.precision, args.seconds, args.decoder, args.seed, weights_by_model(args.weights)),
        pictures.jpegs, pictures=pictures.settings(),
        peers=lambda: [make_timed_peer(name, pictures.jpegs, device, args.seed) for name in args.peers],
        peer_names=args.peers,
    )  # fmt: skip


def _models(args: argparse.Namespace) -> tuple[str, ...]:
    """The detectors that take part.  ModelError for a classifier."""
    weights = weights_by_model(args.weights)
    models = list(args.models or weights or DEFAULT_MODELS)
    models += [model for model in weights if model not in models]
    for name in models:
        if model_config(name).task != "detector":
            raise ModelError(f"{name}: a classifier, expected a detector")
    return tuple(models)


def _pictures(args: argparse.Namespace) -> Pictures:
    if not args.images:
        return builtin_pictures(args.seed)
    with tqdm(desc="reading", unit="file", leave=False, file=sys.stderr) as bar:
        return pictures_of(args.images, _models(args), args.coefficients, args.decoder, args.limit, bar.update)


def weights_by_model(files: Sequence[str]) -> dict[str, str]:
    """{the network that a safetensors file holds: the file}."""
    found: dict[str, str] = {}
    for file in files:
        model = read_info(file).model
        if model in found:
            raise ModelError(f"--weights: {found[model]} and {file} both hold {model}, expected one of each network")
        found[model] = file
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
