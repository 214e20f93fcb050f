"""The command `jpegdeep`: its subcommands are the rows of one table."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from .command import Parser, run_command, stop_opencv_threads

COMMANDS = {  # the words that name it -> (its module in this folder and function, what it does)
    "predict": ("predict:main", "find objects in JPEG files: JSON Lines or COCO results, and pictures with boxes"),
    "eval voc": ("evaluate:voc", "Pascal VOC's average precision of a detector"),
    "eval coco": ("evaluate:coco", "COCO's twelve figures of a detector"),
    "eval imagenet": ("evaluate:imagenet", "top-1 and top-5 accuracy of a classifier"),
    "models": ("models:main", "networks, and weights that have a name, with their model cards"),
    "compare": ("compare:main", "two evaluations of the same images side by side, with intervals"),
    "train": ("train:main", "train a network by a recipe or a TOML file"),
    "twin": ("twin:main", "make the twin on coefficients of a trained RGB network, from JPEGs without labels"),
    "convert": ("convert:main", "turn a Keras checkpoint into a safetensors file, and prove it"),
    "serve": ("serve:main", "answer HTTP requests with a detector, and a page to try it"),
    "export": ("export:main", "turn a safetensors file into an ONNX, OpenVINO or TensorRT engine"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Runs the subcommand that `argv` (default: the process's arguments) names -> its exit status.

    Its module is imported when it is called.  Raises what the subcommand raises (JpegDeepError), and SystemExit for
    --help, --version and unknown words.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for words, (place, _) in COMMANDS.items():
        count = len(words.split())
        if arguments[:count] == words.split():
            module, _, function = place.partition(":")
            command = getattr(importlib.import_module(f".{module}", __package__), function)
            stop_opencv_threads()  # as run_command did, before there was OpenCV
            return command(arguments[count:])
    group = "eval " if arguments[:1] == ["eval"] else ""
    summaries = {words[len(group) :]: summary for words, (_, summary) in COMMANDS.items() if words.startswith(group)}
    listing = "\n".join(f"  {words:14} {summary}" for words, summary in summaries.items())
    parser = Parser(
        prog=f"jpegdeep {group}".strip(), usage="%(prog)s COMMAND ...",
        description="Object detection in JPEG files without decoding them.",
        epilog=f"commands:\n{listing}\n\n`%(prog)s COMMAND --help` lists a command's arguments.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"jpegdeep_torch {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="one of those below")
    given = parser.parse_args(arguments[1:2] if group else arguments[:2]).command
    parser.error(f"{' '.join(given) or 'no command'}: expected one of {', '.join(summaries)}")


def run() -> NoReturn:
    """The console script: as `main`, with mistakes told in one line."""
    sys.exit(run_command(main))
