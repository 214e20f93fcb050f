"""Trains a network on JPEGs.

jpegdeep train CONFIG.toml
torchrun --nproc-per-node 4 -m jpegdeep_torch train CONFIG.toml
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ..errors import ConfigError, FailedElsewhere, JpegDeepError
from ..training.config import list_recipes
from ..training.report import Callbacks
from ..training.run import group_device, make_plan, read_for_all, train
from ..utils.distributed import process_group
from .command import EXIT_MISTAKE, Parser

_LAST_WORDS_S = 1.0  # torchrun ends all processes when one ends: the one with something to say must come first


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="jpegdeep train", description=__doc__.splitlines()[0])
    p.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file, or the name of a recipe")
    p.add_argument("-o", "--output", metavar="DIR", help="the run's folder (default: the configuration's `output`)")
    p.add_argument("--root", metavar="DIR", help="where the data lies, in place of each set's root")
    p.add_argument("--set", dest="changes", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                   help="such as run.epochs=10, in place of what the configuration states")  # fmt: skip
    p.add_argument("--init", metavar="FILE", help="weights to start from, such as a classifier's")
    p.add_argument("--resume", action="store_true", help="go on with the run in the folder, if there is one")
    p.add_argument("--check", action="store_true", help="read configuration and data, say what they are, and stop")
    p.add_argument("--list", action="store_true", help="name the recipes")
    return p


def main(argv: Sequence[str] | None = None) -> int | None:
    args = parser().parse_args(argv)
    if args.list:
        print("\n".join(list_recipes()))
        return None
    if args.config is None:
        raise ConfigError(f"no CONFIG, expected a TOML file or one of {', '.join(list_recipes())}")
    try:
        (_check if args.check else _train)(args)
        return None
    except FailedElsewhere:
        time.sleep(_LAST_WORDS_S)
        return EXIT_MISTAKE
    except JpegDeepError as error:
        number = int(os.environ.get("RANK", "0"))
        if number > 0:
            raise JpegDeepError(f"rank {number}: {error}") from None
        raise


def _train(args: argparse.Namespace) -> None:
    first = _is_first()
    with contextlib.ExitStack() as stack:
        checking = stack.enter_context(_bar(" images", delay=2))
        steps: list[tqdm] = []

        def say(line: str) -> None:
            checking.close()  # all images are looked at when there is something to say
            if first:
                _say(line)

        def begin(done: int, last: int) -> None:
            steps.append(stack.enter_context(_bar(" steps", total=last, initial=done)))

        def step(done: int, shown: dict[str, str]) -> None:
            steps[0].set_postfix(shown, refresh=False)
            steps[0].update(done - steps[0].n)

        done = train(
            args.config, output=args.output, root=args.root, init=args.init, changes=args.changes, resume=args.resume,
            callbacks=Callbacks(say, step, checked=checking.update, begin=begin),
        )  # fmt: skip
    if first:
        _say(f"{done.folder}: " + ", ".join(f"{name} {value:.4f}" for name, value in done.figures.items()))


def _check(args: argparse.Namespace) -> None:
    parsed = read_for_all(args.config, output=args.output, root=args.root, init=args.init, changes=args.changes)
    with process_group(group_device(parsed)) as device, _bar(" images", delay=2) as bar:
        callbacks = Callbacks(checked=bar.update)
        plan = make_plan(args.config, parsed, writes=False, resume=args.resume, callbacks=callbacks)
    if _is_first():
        _say(plan.summary(device))


def _is_first() -> bool:
    """Whether this is the process that prints; before and after the group of processes exists."""
    return int(os.environ.get("RANK", "0")) == 0


def _bar(unit: str, **options: Any) -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 30.0
    options |= {"mininterval": interval, "dynamic_ncols": True, "disable": not _is_first()}
    return tqdm(unit=unit, file=sys.stderr, **options)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
