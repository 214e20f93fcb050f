"""What may be given to a predictor: files, folders, bytes, and several of these."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ..data.dataset import JPEG_SUFFIXES
from ..errors import DatasetError
from ..jpeg.reader import Source

Sources = Source | os.PathLike | Iterable[Source | os.PathLike]


def expand_sources(sources: Sources) -> Iterator[Source]:
    """Each JPEG that `sources` stands for: a file, bytes, a folder (all JPEGs below it, by name), or several of these.

    A folder is listed when its turn comes, not before.
    """
    if isinstance(sources, (bytes, bytearray, memoryview)):
        yield bytes(sources)
    elif isinstance(sources, (str, os.PathLike)):
        if os.path.isdir(sources):
            yield from walk_jpegs(sources)
        else:
            yield os.fspath(sources)
    else:
        for source in sources:
            yield from expand_sources(source)


def walk_jpegs(folder: str | os.PathLike[str]) -> Iterator[str]:
    """The JPEGs in `folder` and below, each folder's entries by name; linked files, but not what is in linked folders.

    Raises:
        DatasetError: a folder cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{os.fspath(folder)}: cannot be listed ({error.strerror or error})") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk_jpegs(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in JPEG_SUFFIXES:
            yield entry.path
