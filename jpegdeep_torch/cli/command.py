"""What all commands share: mistakes end in one line on stderr and exit status 2, without a traceback.

A command is a function `main(argv=None) -> int | None`, which may raise JpegDeepError.  `run_command` runs it as a
process.  Nothing here imports PyTorch, so that `jpegdeep --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import JpegDeepError
from ..utils.memory import keep_freed_memory
from ..utils.messages import shown

EXIT_MISTAKE = 2


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line: without the usage, which `--help` gives."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_MISTAKE, f"{self.prog}: {_one_line(message)} (--help lists the arguments)\n")


def add_coefficients_argument(
    parser: argparse._ActionsContainer, old_flag: str = "--dct", several: bool = False
) -> None:
    """Adds --coefficients, for one or `several` of presets.COEFFICIENTS; `old_flag` goes on working."""
    from ..presets import COEFFICIENTS, current_name  # imports PyTorch

    meaning = "; ".join(f"{name}: {text}" for name, text in COEFFICIENTS.items())
    options: dict[str, Any] = {"nargs": "+", "default": list(COEFFICIENTS)} if several else {}
    default = " (the first is the base; default: all)" if several else " (default: the weights file's own)"
    for flag, help_text in (("--coefficients", meaning + default), (old_flag, argparse.SUPPRESS)):
        parser.add_argument(
            flag, dest="coefficients", type=current_name, choices=tuple(COEFFICIENTS), help=help_text, **options
        )


def run_command(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Runs `main(argv)` as a process does: it keeps the memory that it frees, and OpenCV starts no threads in it.

    Returns:
        The exit status: main's own (None is 0), 2 for a JpegDeepError, 130 for Ctrl-C.
    """
    keep_freed_memory()
    stop_opencv_threads()
    try:
        status = main(argv) or 0
        sys.stdout.flush()  # a closed pipe shows here rather than at the interpreter's end
        return status
    except JpegDeepError as error:
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return EXIT_MISTAKE
    except BrokenPipeError:  # `... | head`: the reader has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def stop_opencv_threads() -> None:
    """OpenCV starts no threads in this process; where it is not imported, as by `jpegdeep --help`, nothing happens."""
    if pixels := sys.modules.get("jpegdeep_torch.jpeg.pixels"):
        pixels.use_one_opencv_thread()


def _one_line(message: str) -> str:
    return shown(" ".join(message.split()), most=None)
