"""Trains a network on JPEGs.

jpegdeep train CONFIG.toml
torchrun --nproc-per-node 4 -m jpegdeep_torch train CONFIG.toml
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

import torch
from tqdm import tqdm

from ..errors import ConfigError, FailedElsewhere, JpegDeepError
from ..training.checks import check_run, usable_device
from ..training.config import Draft, list_recipes, read_draft
from ..training.run_folder import RunFolder
from ..training.trainer import Display, Trainer
from ..utils.distributed import collective_errors, process_group, rank
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
    try:
        return _train(args)
    except FailedElsewhere:
        time.sleep(_LAST_WORDS_S)
        return EXIT_MISTAKE
    except JpegDeepError as error:
        number = int(os.environ.get("RANK", "0"))
        if number > 0:
            raise JpegDeepError(f"rank {number}: {error}") from None
        raise


def _train(args: argparse.Namespace) -> int | None:
    draft = _read(args)
    with process_group(_group_device(draft)) as device:
        say = _say if rank() == 0 else lambda line: None
        with collective_errors(), _bar(" pictures", delay=2) as bar:
            plan = check_run(args.config, draft, writes=not args.check, resume=args.resume, progress=bar.update)
        config, data = plan.config, plan.data
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        say(f"{config.model.name}, width {config.model.width:g}, on {device}: {data}")
        for note in plan.notes:
            say(note)
        if args.check:
            return None
        folder = RunFolder(config.output, config, resume=args.resume, writes=rank() == 0)
        with _bar(" steps") as bar:
            display = Display(say, lambda done, shown: _show(bar, done, shown))
            trainer = Trainer(config, data, folder, device, display)
            bar.total = trainer.last_step
            bar.update(trainer.step)
            figures = trainer.fit()
        say(f"{folder.path}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return None


def _read(args: argparse.Namespace) -> Draft:
    """The configuration; where it is none, the first process of a machine says so for all of that machine."""
    try:
        if args.config is None:
            raise ConfigError(f"no CONFIG, expected a TOML file or one of {', '.join(list_recipes())}")
        return read_draft(
            args.config, args.changes, output=args.output or "", root=args.root or "", init=args.init or ""
        )
    except ConfigError as error:
        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            raise FailedElsewhere(str(error)) from None
        raise


def _group_device(draft: Draft) -> str:
    """Where the processes meet; on the CPU where the device is one of the things that are wrong."""
    try:
        return usable_device(draft.sound.get("run.device", "cpu"))
    except ConfigError:
        return "cpu"


def _bar(unit: str, delay: float = 0) -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 30.0
    options = {"mininterval": interval, "dynamic_ncols": True, "disable": rank() > 0, "delay": delay}
    return tqdm(unit=unit, file=sys.stderr, **options)


def _show(bar: tqdm, done: int, shown: dict[str, str]) -> None:
    bar.set_postfix(shown, refresh=False)
    bar.update(done - bar.n)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
