"""Trains a network on JPEGs.

python -m jpegdeep_torch.training CONFIG.toml
torchrun --nproc-per-node 4 -m jpegdeep_torch.training CONFIG.toml
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from ..cli import EXIT_MISTAKE, Parser, run_command
from ..errors import ConfigError, JpegDeepError
from .config import TrainingConfig, list_recipes, load_config
from .distributed import process_group, rank
from .engine import Display, Trainer
from .run_folder import RunFolder
from .sources import read_training_data


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m jpegdeep_torch.training", description=__doc__.splitlines()[0])
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
    except JpegDeepError:
        if int(os.environ.get("RANK", "0")) > 0:  # the first process says it for all
            return EXIT_MISTAKE
        raise


def _train(args: argparse.Namespace) -> int | None:
    if args.config is None:
        raise ConfigError(f"no CONFIG, expected a TOML file or one of {', '.join(list_recipes())}")
    config = _with_arguments(load_config(args.config, args.changes), args)
    data = read_training_data(config.data)
    if not config.output and not args.check:
        raise ConfigError(f"{args.config}: no folder to write to, expected `output` in it, or --output DIR")
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    with process_group(_device(config.run.device)) as device:
        say = _say if rank() == 0 else lambda line: None
        say(f"{config.model.name}, width {config.model.width:g}, on {device}: {data}")
        for note in data.notes:
            say(f"left out: {note}")
        if args.check:
            return None
        folder = RunFolder(config.output, config, resume=args.resume, writes=rank() == 0)
        with _bar() as bar:
            display = Display(say, lambda done, shown: _show(bar, done, shown))
            trainer = Trainer(config, data, folder, device, display)
            bar.total = trainer.last_step
            bar.update(trainer.step)
            figures = trainer.fit()
        say(f"{folder.path}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return None


def _with_arguments(config: TrainingConfig, args: argparse.Namespace) -> TrainingConfig:
    data = config.data
    if args.root:
        sets = {key: tuple(dataclasses.replace(s, root=args.root) for s in getattr(data, key))
                for key in ("train", "evaluate")}  # fmt: skip
        data = dataclasses.replace(data, **sets)
    model = dataclasses.replace(config.model, init=args.init) if args.init else config.model
    return dataclasses.replace(config, data=data, model=model, output=args.output or config.output)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"run.device: {name!r} cannot be used here ({str(error).splitlines()[0]})") from None
    return name


def _bar() -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(unit=" steps", file=sys.stderr, mininterval=interval, dynamic_ncols=True, disable=rank() > 0)


def _show(bar: tqdm, done: int, shown: dict[str, str]) -> None:
    bar.set_postfix(shown, refresh=False)
    bar.update(done - bar.n)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run_command(main))
