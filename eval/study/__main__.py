"""Where the time goes on this machine: networks, backends, batch sizes, workers and kinds of coefficients in one study.

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

from eval.benchmark.arguments import DEFAULT_MODELS, add_backends, add_batch_sizes, laboratory_parser, prepared_device
from eval.peers import PEERS, make_timed_peer
from eval.study.folder import ROUNDS, StudyFolder, StudySettings
from eval.study.images import MOST, StudyImages, builtin_images, images_from
from eval.study.plan import Matrix
from eval.study.run import PARTS, has_figures, measure_study, unmeasured, write_outcome
from jpegdeep_torch.cli.command import add_coefficients_argument, run_command
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.inference.predictor import default_workers
from jpegdeep_torch.utils.environment import run_header
from jpegdeep_torch.weights import read_info

BATCH_SIZES = {"cpu": (1, 8, 32), "cuda": (8, 32, 128)}
SECONDS = 4.0


def parser() -> argparse.ArgumentParser:
    p = laboratory_parser("study", __doc__)
    add_backends(p, "--backends")
    add_batch_sizes(p, BATCH_SIZES)
    add_coefficients_argument(p, "--presets", several=True)
    p.add_argument("-o", "--output", required=True, metavar="DIR", help="a study's folder: a new one, or one to go on")
    p.add_argument("--minutes", type=float, metavar="M", help="begin nothing that would end later (default: no limit)")
    p.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="(default: all)")
    p.add_argument("--limit", type=int, default=MOST, metavar="N",
                   help="of a folder's files, spread evenly over it (default: %(default)s)")  # fmt: skip
    p.add_argument("--weights", nargs="+", default=[], metavar="FILE",
                   help="safetensors files, whose networks take part; other networks get seeded weights")  # fmt: skip
    p.add_argument("--models", nargs="+", metavar="MODEL",
                   help=f"ratios are to the first on pixels (default: {' '.join(DEFAULT_MODELS)})")  # fmt: skip
    p.add_argument("--base-batch", type=int, default=8, metavar="N", help="where all is compared (default: 8)")
    p.add_argument("--workers", type=int, nargs="+", metavar="N",
                   help="processes that read JPEGs; the first is the base (default: 1 0 2 on a CPU)")  # fmt: skip
    p.add_argument("--peers", nargs="+", default=[], metavar="PEER", help=PEERS)
    p.add_argument("--seconds", type=float, default=SECONDS,
                   help=f"per run, at least {ROUNDS} rounds (default: %(default)s)")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    started = time.monotonic()
    if not all(0 <= value < math.inf for value in (args.seconds, args.minutes or 0.0)):
        raise ModelError("--seconds and --minutes must be 0 or more, and finite")
    models = _models(args)
    device = prepared_device(args, models, args.backends, ("limit",))
    images = _images(args, models)
    for reason in images.left_out:
        print(f"left out: {reason}", file=sys.stderr)
    study = make_study(args, models, device, images)
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
            write_outcome(study, run_header("eval.study", vars(args)), command, args.parts, images.left_out)
    if left:
        print(f"no time for {', '.join(left)}: the same command goes on with them", file=sys.stderr)
    print(study.folder / "README.md")


def make_study(args: argparse.Namespace, models: Sequence[str], device: str, images: StudyImages) -> StudyFolder:
    """The study that the arguments describe.  Raises JpegDeepError for what cannot be, before anything is measured."""
    base_workers = default_workers(device)
    matrix = Matrix(
        tuple(models), tuple(args.backends), tuple(args.batch_sizes or BATCH_SIZES[torch.device(device).type]),
        args.base_batch, tuple(args.coefficients),
        tuple(args.workers or dict.fromkeys((base_workers, 0, 2 * base_workers))),
    )  # fmt: skip
    return StudyFolder(
        args.output, matrix,
        StudySettings(device, args.precision, args.seconds, args.decoder, args.seed, weights_by_model(args.weights)),
        images.jpegs, images=images.settings(),
        peers=lambda: [make_timed_peer(name, images.jpegs, device, args.seed) for name in args.peers],
        peer_names=args.peers,
    )  # fmt: skip


def _models(args: argparse.Namespace) -> list[str]:
    """The detectors that take part."""
    weights = weights_by_model(args.weights)
    return list(dict.fromkeys([*(args.models or weights or DEFAULT_MODELS), *weights]))


def _images(args: argparse.Namespace, models: Sequence[str]) -> StudyImages:
    if not args.images:
        return builtin_images(args.seed)
    with tqdm(desc="reading", unit="file", leave=False, file=sys.stderr) as bar:
        return images_from(args.images, models, args.coefficients, args.decoder, args.limit, bar.update)


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
