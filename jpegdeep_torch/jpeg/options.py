"""What a caller may choose about reading JPEGs, and what a file may have to say for itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

ON_DAMAGE = ("error", "strict", "tolerate")
ORIENTATIONS = ("apply", "stored")


@dataclass(frozen=True)
class ReadOptions:
    """How JPEGs are read.  The same options mean the same files and the same pictures by every reader and decoder.

    on_damage: what ends the reading of a file with a JpegError.
        'error': whatever loses part of the picture: data that end too early, or codes that do not exist.
        'strict': that, any other warning of libjpeg's, and codings that only a decoder can bring to YCbCr.
        'tolerate': nothing but what leaves no picture at all.  What is missing is mid-grey.
    orientation: 'apply' turns the picture as its EXIF orientation says, as viewers do.  'stored' leaves it.
    max_memory_mb: the most that decoding one file may hold in memory, in 10^6 bytes.  650 are 216 megapixels in one
        scan, and 108 of 4:2:0 in several, which have to be held whole (`JpegHeader.memory_needed`).
    """

    on_damage: str = "error"
    orientation: str = "apply"
    max_memory_mb: float = 650.0

    def __post_init__(self) -> None:
        """Raises ValueError for a word that is none of these, or a limit that is not above 0."""
        for name, value, known in (
            ("on_damage", self.on_damage, ON_DAMAGE),
            ("orientation", self.orientation, ORIENTATIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, not {value!r}")
        if not self.max_memory_mb > 0:
            raise ValueError(f"max_memory_mb is above 0, not {self.max_memory_mb}")


DEFAULT_OPTIONS = ReadOptions()


@dataclass(frozen=True)
class JpegWarning:
    """Something unusual about a file that was read all the same.

    message: of the first time, as libjpeg words it.
    count: how many times there was something of this kind in the file.
    """

    message: str
    count: int = 1

    @property
    def kind(self) -> str:
        """The message without its numbers, by which warnings of several files can be counted together."""
        return re.sub(r"\b0x[0-9a-f]+|\d+(\.\d+)?", "#", self.message)

    def __str__(self) -> str:
        return self.message if self.count == 1 else f"{self.message} ({self.count} times)"


@dataclass
class WarningCounts:
    """How many files of a run gave warnings, to be said at its end.

    files: how many files gave a warning of each kind.
    examples: the first file of each kind, and its warning.
    """

    files: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, name: object, warnings: Iterable[JpegWarning]) -> None:
        """Counts the warnings of one file; a kind that it gave several times counts once."""
        for kind, warning in {warning.kind: warning for warning in warnings}.items():
            self.files[kind] += 1
            self.examples.setdefault(kind, f"{name}: {warning}")

    def summary(self) -> list[str]:
        """A line for each kind: the number of files, and the first of them."""
        return [
            f"warning: {count} file{'s' if count > 1 else ''} such as {self.examples[kind]}"
            for kind, count in self.files.items()
        ]
