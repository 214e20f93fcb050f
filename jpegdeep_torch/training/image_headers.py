"""A look at every picture's header before training, which would stop at a picture that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..data.reading import READ_OPTIONS
from ..errors import JpegError
from ..jpeg.header import JpegHeader, read_header

_WHOLE = 20_000  # pictures of a set that are read whole, which finds those cut short too
_START_BYTES = 16 << 10  # of larger sets; frame headers lie within 1 KiB, or behind a preview
_END_OF_IMAGE = b"\xff\xd9"
_TOGETHER, _THREADS = 200, 4  # a cold disk or a network answers several readers sooner than one

Progress = Callable[[int], object]


def headers(paths: Sequence[Path], coefficients: bool, progress: Progress) -> Iterator[JpegHeader | str]:
    """Each picture's header, or what is wrong with the picture, in order.

    coefficients: whether they are read, rather than pixels: CMYK and 12 bits are refused then.
    progress: called with the number of pictures looked at since the last call.

    Up to 20,000 files are read whole; of more, the first 16 KiB, so that what is read stays small.  About 0.1 ms each
    either way where they are in memory.
    """
    whole = len(paths) <= _WHOLE
    parts = [paths[i : i + _TOGETHER] for i in range(0, len(paths), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(lambda part: [_header(path, whole, coefficients) for path in part], parts):
            progress(len(part))
            yield from part


def _header(path: Path, whole: bool, coefficients: bool) -> JpegHeader | str:
    try:
        header = (None if whole else _from_start(path)) or read_header(path.read_bytes(), path, READ_OPTIONS)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror or error})"
    except JpegError as error:
        return str(error)
    if coefficients and (header.components not in (1, 3) or header.precision != 8):
        return (
            f"{path}: {header.components} components of {header.precision} bits, expected grayscale or YCbCr of 8 bits "
            "where coefficients are read (data.coefficients)"
        )
    return header


def _from_start(path: Path) -> JpegHeader | None:
    """The header, if the file's first bytes hold all of it."""
    with open(path, "rb") as file:
        start = file.read(_START_BYTES)
    try:
        return read_header(
            start + _END_OF_IMAGE, path, READ_OPTIONS
        )  # the frame header is what is asked for, not the rest
    except JpegError:
        return None
