"""The pictures that a twin learns from, and where a run tells how it gets on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import list_jpegs, spread_evenly
from ..errors import DatasetError, JpegError
from ..jpeg import check_jpeg
from .learning import Progress

Folders = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_MOST_HELD_OUT = 200
_LEAST_PICTURES = 10


@dataclass
class Display:
    """Where a run tells how it gets on; each may be left out.

    say: a line.  checked, proved: numbers of pictures, before the first step and after the last.
    """

    say: Callable[[str], None] = lambda line: None
    step: Callable[[Progress], None] = lambda progress: None
    checked: Callable[[int], object] = lambda pictures: None
    proved: Callable[[int], object] = lambda pictures: None


def split_pictures(images: Folders, display: Display) -> tuple[list[Path], list[Path]]:
    """(to learn from, held out: a tenth, at most 200, at even distances) of the JPEGs of these folders.

    How many cannot be read is told in one line.

    Raises:
        DatasetError: a folder without JPEGs, or too few that can be read.
    """
    folders = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    found, wrong = [], []
    for file in (file for folder in folders for file in list_jpegs(folder)):
        try:
            check_jpeg(file.read_bytes(), file)
            found.append(file)
        except (JpegError, OSError) as error:
            wrong.append(str(error))
        display.checked(1)
    if len(found) < _LEAST_PICTURES:
        first = f"; {wrong[0]}" if wrong else ""
        raise DatasetError(
            f"{', '.join(map(str, folders))}: {len(found)} JPEGs that can be read, expected at least "
            f"{_LEAST_PICTURES}{first}"
        )
    if wrong:
        display.say(f"left out: {len(wrong)} of {len(found) + len(wrong)} files cannot be read, the first: {wrong[0]}")
    held_out = spread_evenly(found, min(_MOST_HELD_OUT, len(found) // 10))
    kept = set(held_out)
    return [file for file in found if file not in kept], held_out
