"""A JSON Lines file that survives kill -9: a run that is started again goes on where the last one stopped.

Lines are gathered in NAME.part, which is renamed to NAME at the end: NAME is never half written.  A run appends a whole
batch's lines with one write.  What a kill cut off is taken away before the next run goes on, and that batch is done
again with the same images in it, so that the result is that of an uninterrupted run to the last bit.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_SYNC_SECONDS = 1.0  # a kill loses nothing that was written; this bounds what a power cut loses


class Journal:
    """Appends JSON lines, a batch at a time; a context manager."""

    def __init__(self, path: str | os.PathLike[str], batch_size: int, overwrite: bool = False):
        """Opens the journal of `path` and recovers what whole batches of `batch_size` lines it has."""
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        if self.path.exists() and not self.part.exists():
            os.replace(self.path, self.part)
        if overwrite:
            self.part.unlink(missing_ok=True)
        self._file = open(self.part, "ab")  # noqa: SIM115 - closed by __exit__
        self.lines, length = _whole_batches(self.part, batch_size)
        self._file.truncate(length)
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines so far."""
        yield from read_lines(self.part)

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Adds a batch's lines."""
        self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode("ascii"))
        self._file.flush()
        self.lines += len(lines)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def finish(self) -> None:
        """The run is complete: the file gets its name."""
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.part, self.path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What each line of a JSON Lines file says."""
    with open(path, "rb") as file:
        for line in file:
            yield json.loads(line)


def _whole_batches(path: Path, batch_size: int) -> tuple[int, int]:
    """(lines, bytes) of the whole batches before the first line that is torn or, after a power cut, not JSON."""
    lines = length = kept = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_object(line):
                break
            lines += 1
            length += len(line)
            if lines % batch_size == 0:
                kept = length
    return lines // batch_size * batch_size, kept


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
