"""What may be given to a predictor: files, folders, bytes, streams of frames, and several of these."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from ..data.dataset import JPEG_SUFFIXES
from ..data.mjpeg import Frame, LiveFrames, is_address, is_stream, read_frames
from ..errors import DatasetError, StreamError
from ..jpeg.reader import Source

Sources = Source | os.PathLike | Frame | Iterable[Source | os.PathLike | Frame]
Item = TypeVar("Item")


def expand_sources(sources: Sources) -> Iterator[Source | Frame]:
    """Each JPEG that `sources` stands for.

    That is a file, bytes, a folder (all JPEGs below it, by name), a stream of frames, or several of these.  Of a file
    of frames each frame comes; of an address the newest whenever one is asked for (`LiveFrames`).  A folder is listed,
    and a stream opened, when its turn comes, not before.

    Raises:
        DatasetError: a folder cannot be listed.
        StreamError: a stream cannot be opened, or broke off; after the frames that were whole.
    """
    if isinstance(sources, (bytes, bytearray, memoryview)):
        yield bytes(sources)
    elif isinstance(sources, Frame):
        yield sources
    elif isinstance(sources, (str, os.PathLike)) and is_stream(sources) and not os.path.isdir(sources):
        name = os.fspath(sources)
        if is_address(name):
            with LiveFrames(name) as frames:
                yield from frames
        else:
            yield from read_frames(name)
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


def is_live(source: object) -> bool:
    """Whether `source` is a frame of a stream that does not wait."""
    return isinstance(source, Frame) and source.live


class UntilBroken(Iterator[Item], Generic[Item]):
    """What an iterator gives up to a StreamError, which is kept: so that what was read comes to its end first."""

    def __init__(self, items: Iterable[Item]):
        self._items = iter(items)
        self._error: StreamError | None = None

    def __next__(self) -> Item:
        try:
            return next(self._items)
        except StreamError as error:
            self._error = error
            raise StopIteration from None

    def raise_error(self) -> None:
        """Raises the error that ended the iterator, if one did."""
        if self._error is not None:
            raise self._error
