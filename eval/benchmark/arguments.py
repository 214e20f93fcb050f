"""The arguments that the laboratory's commands share, and what follows from them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from eval.benchmark.networks import check_detector
from eval.benchmark.photos import builtin_jpegs
from jpegdeep_torch.backends import PRECISIONS, chosen_device, get_backend, list_backends
from jpegdeep_torch.cli.command import Parser
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.jpeg.pixels import DECODER_NAMES, DEFAULT_DECODER

DEFAULT_MODELS = ("ssd300_vgg16", "ssd300_vgg16_dct")


def laboratory_parser(command: str, description: str) -> Parser:
    """The parser of `python -m eval.COMMAND`, with --images, --device, --precision, --threads, --decoder, --seed."""
    p = Parser(prog=f"python -m eval.{command}", description=description.splitlines()[0])
    p.add_argument("--images", metavar="DIR", help="JPEG files (default: 32 built-in photographs)")
    p.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    p.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    p.add_argument("--threads", type=int, metavar="N", help="of PyTorch (default: its own choice)")
    p.add_argument("--decoder", choices=DECODER_NAMES, default=DEFAULT_DECODER, help="of the pixel paths")
    p.add_argument("--seed", type=int, default=0)
    return p


def add_backends(p: argparse.ArgumentParser, flag: str) -> None:
    """Adds `flag` for one backend or several."""
    p.add_argument(flag, nargs="+", default=["torch"], metavar="BACKEND",
                   help=f"of {', '.join(list_backends())}; the first is the base (default: torch)")  # fmt: skip


def add_batch_sizes(p: argparse.ArgumentParser, default: dict[str, tuple[int, ...]]) -> None:
    """Adds --batch-sizes; `default` has those of each kind of device."""
    texts = (f"{' '.join(map(str, sizes))} on {kind}" for kind, sizes in default.items())
    p.add_argument("--batch-sizes", type=int, nargs="+", metavar="N", help=f"default: {', '.join(texts)}")


def prepared_device(
    args: argparse.Namespace, models: Sequence[str], backends: Sequence[str], counts: Sequence[str] = ()
) -> str:
    """Checks what can be told from the arguments alone, and sets PyTorch's threads and seed -> the device.

    Args:
        models: detectors that take part.
        counts: arguments, beside --threads, that must be at least 1 where they are given.

    Raises:
        ModelError: an argument is impossible.
        BackendUnavailable: a backend cannot run on the device.
    """
    for name in models:
        check_detector(name)
    device = chosen_device(args.device)
    for backend in backends:
        get_backend(backend).require(device)
    for name in ("threads", *counts):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                raise ModelError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return device


def images_of(args: argparse.Namespace) -> list[Source]:
    """The files of --images, or the built-in photographs."""
    return list_jpegs(args.images) if args.images else builtin_jpegs(seed=args.seed)
