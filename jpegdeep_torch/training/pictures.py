"""Every picture is read before training, as training will read it: training would stop at one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.annotations import DatasetIssues
from ..data.orientation import look_at_files, read_start
from ..errors import JpegError, UnsupportedCoding
from ..jpeg.header import OpenedJpeg, open_jpeg
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from ..jpeg.reader import Source, open_source, source_bytes

_MOST_WHOLE = 20_000  # pictures of a set that are read whole where a run begins
Progress = Callable[[int], object]


def no_progress(pictures: int) -> None:
    """Nobody is told."""


@dataclass
class PictureCheck:
    """Finds the pictures that training can read.

    Files are read whole, and their entropy coding is decoded: about 0.9 ms per 100 kB.  Of sets of more
    than 20,000 the first 16 KiB are looked at alone (0.04 ms), unless `thorough`.

    options: those that training reads with.
    native: whether training reads the files' own coefficients.
    progress: called with the number of pictures looked at since the last call.
    issues: 'unusable picture' goes there.
    decoded: what is said of pictures whose coefficients can only be had by decoding and compressing them again.
    """

    options: ReadOptions = DEFAULT_OPTIONS
    native: bool = False
    thorough: bool = False
    progress: Progress = no_progress
    issues: DatasetIssues = field(default_factory=lambda: DatasetIssues(lenient=True))
    decoded: list[str] = field(default_factory=list)
    _usable: dict[Path, bool] = field(default_factory=dict)

    def usable(self, paths: Sequence[Path]) -> list[bool]:
        """Whether each can be read; none is looked at twice."""
        new = [path for path in dict.fromkeys(paths) if path not in self._usable]
        whole = self.thorough or len(new) <= _MOST_WHOLE
        problems = look_at_files(lambda path: self._problem(path, self.native, whole), new, self.progress)
        for path, problem in zip(new, problems, strict=True):
            self._usable[path] = problem is None or isinstance(problem, UnsupportedCoding)
            if isinstance(problem, UnsupportedCoding):
                self.decoded.append(str(problem))
            elif problem is not None:
                self.issues.report("unusable picture", str(problem))
        return [self._usable[path] for path in paths]

    def _problem(self, path: Path, native: bool, whole: bool) -> JpegError | None:
        """What is wrong with a picture; UnsupportedCoding where it can be read all the same, by decoding it."""
        try:
            if whole:
                self._open(path, native).check()
            else:
                self._open_start(path, native)
        except UnsupportedCoding as error:
            return self._problem(path, False, whole) or error
        except JpegError as error:
            return error
        return None

    def _open_start(self, path: Path, native: bool) -> None:
        try:
            self._open(read_start(path), native)
        except UnsupportedCoding as error:
            raise UnsupportedCoding(path, error.reason) from None
        except JpegError:  # its frame header may lie behind a large preview
            self._open(path, native)

    def _open(self, source: Source, native: bool) -> OpenedJpeg:
        if native:
            return open_source(source, self.options)
        name, data = source_bytes(source)
        return open_jpeg(data, name, self.options)
