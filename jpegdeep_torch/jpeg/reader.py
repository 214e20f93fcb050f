"""JPEG bytes -> `Planes`: entropy decoding, and nothing after it."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np

from ..errors import JpegError, MissingExtra, UnsupportedCoding
from .header import OpenedJpeg, open_jpeg
from .native import native_module
from .options import DEFAULT_OPTIONS, JpegWarning, ReadOptions
from .planes import Planes
from .quantization import FROM_RGB

READERS = ("auto", "native", "jpeg2dct")

_420 = ((2, 2), (1, 1), (1, 1))
_REDIRECTED = Lock()

Source = bytes | bytearray | memoryview | str | os.PathLike


def source_bytes(source: Source, name: str = "<bytes>") -> tuple[str, bytes]:
    """The name to give in errors (`name` for bytes) and the file's contents.

    JpegError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return name, source
    if isinstance(source, bytearray | memoryview):
        return name, bytes(source)
    try:
        return str(source), Path(source).read_bytes()
    except OSError as error:
        raise JpegError(source, error.strerror or str(error)) from None


def choose_reader(reader: str) -> str:
    """Resolves 'auto'.

    Raises:
        ValueError: an unknown name, or 'native' where it was not built.
        MissingExtra: what it needs is not installed.
    """
    if reader not in READERS:
        raise ValueError(f"reader is one of {', '.join(READERS)}, not {reader!r}")
    if reader != "jpeg2dct" and native_module() is not None:
        return "native"
    if reader == "native":
        raise ValueError("the native reader was not built here; reader='auto' falls back to jpeg2dct")
    if importlib.util.find_spec("jpeg2dct") is None:
        why = "" if reader == "jpeg2dct" else ", as the native reader was not built"
        raise MissingExtra(f"reading coefficients needs jpeg2dct{why}: pip install 'jpegdeep-torch[jpeg2dct]'")
    return "jpeg2dct"


def open_source(source: Source, options: ReadOptions, name: str = "<bytes>") -> OpenedJpeg:
    """A file that is of a kind that coefficients can be read of; `name` is what messages call bytes.

    Raises:
        UnsupportedCoding: pixels can be decoded, but there are no planes of Y, Cb and Cr in it.
        JpegError: it cannot be read at all.
    """
    name, data = source_bytes(source, name)
    opened = open_jpeg(data, name, options)
    header = opened.header
    if header.colour in ("cmyk", "ycck"):
        raise UnsupportedCoding(name, f"a {header.colour.upper()} JPEG, whose pixels have to be decoded")
    if header.colour == "rgb" and len(set(header.sampling)) > 1:
        reason = "an RGB JPEG of unequal sampling, whose pixels have to be decoded"
        raise (JpegError if options.on_damage == "strict" else UnsupportedCoding)(name, reason)
    return opened


def read_planes(
    source: Source,
    *,
    reader: str = "auto",
    options: ReadOptions = DEFAULT_OPTIONS,
    warnings: list[JpegWarning] | None = None,
    threads: int = 1,
) -> Planes:
    """Reads the DCT coefficients of a JPEG.

    Args:
        source: bytes, or a path.
        reader: 'native' reads grayscale, YCbCr of any sampling, and RGB of equal sampling, which becomes YCbCr; be they
            baseline, progressive or arithmetic-coded, and without transcoding.  'jpeg2dct' gives the same for
            grayscale and 4:2:0, and brings any other to 4:2:0, at a loss; its Planes then say 4:2:0, with steps of 1.
            'auto' is the native one where it was built.
        options: what is refused, and which way up the picture is.
        warnings: what is unusual about the file is appended.
        threads: that the native reader may use for a sequential file with restart markers.  Of others it uses one.

    Raises:
        UnsupportedCoding: a CMYK or YCCK file, or an RGB one of unequal sampling.  Decoding its pixels is what is left.
        JpegError: whatever else is wrong with it (`ReadOptions`), or a scan script whose decoding would take far longer
            than its size warrants.
    """
    chosen = choose_reader(reader)
    opened = open_source(source, options)
    planes = planes_of(opened, chosen, threads)
    if warnings is not None:
        warnings += opened.warnings
    return planes


def planes_of(opened: OpenedJpeg, reader: str, threads: int = 1) -> Planes:
    """The coefficients of an opened file by the reader 'native' or 'jpeg2dct'.  Raises JpegError."""
    if reader == "jpeg2dct":
        return _read_jpeg2dct(opened)
    coefficients, quantization = opened.decode("read", threads)
    header = opened.header
    if header.colour == "rgb":
        # Linear, so the same for coefficients as for values.  The level shift of 128 is in all three, and so in Y.
        coefficients = tuple(
            sum(np.float32(share) * plane for share, plane in zip(row, coefficients)) for row in FROM_RGB
        )
        quantization = np.ones_like(quantization)
    return Planes(coefficients, header.image_size, header.sampling, quantization, header.orientation)


def read_many(sources: Iterable[Source], *, threads: int | None = None, **options) -> list[Planes]:
    """`read_planes` for many files on several threads (default: one per processor), in the order given.

    Raises the first JpegError of a file, in that order.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(lambda source: read_planes(source, **options), sources))


def _read_jpeg2dct(opened: OpenedJpeg) -> Planes:
    import jpeg2dct.numpy

    opened.check()
    header = opened.header
    sampling, quantization = header.sampling, None
    if header.components == 3 and (sampling != _420 or header.colour == "rgb"):
        sampling, quantization = _420, np.ones((3, 64), np.uint16)
    # It prints libjpeg's warnings, which are not all known where nothing native was built, and that it transcodes.
    prints = opened.warnings or native_module() is None or quantization is not None
    try:
        with _no_output() if prints else nullcontext():
            bands = jpeg2dct.numpy.loads(opened.data, channels=header.components)
    except RuntimeError as error:
        raise JpegError(opened.name, str(error)) from None
    if quantization is None:
        quantization = _tables_by_pillow(opened)
    coefficients = tuple(np.asarray(band) for band in bands)
    return Planes(coefficients, header.image_size, sampling, quantization, header.orientation)


@contextmanager
def _no_output() -> Iterator[None]:
    """Nothing that the process writes to its standard error stream meanwhile is seen."""
    with _REDIRECTED, open(os.devnull, "w") as nothing:
        stream = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stream, 2)
            os.close(stream)


def _tables_by_pillow(opened: OpenedJpeg) -> np.ndarray:
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with JpegImageFile(io.BytesIO(opened.data)) as image:
            return np.array([image.quantization[table] for *_, table in image.layer], np.uint16)
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise JpegError(opened.name, str(error) or "damaged") from None
