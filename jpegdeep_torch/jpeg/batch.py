"""Many JPEGs into one buffer, on several threads of the native part."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import JpegError
from .geometry import Resize
from .header import OpenedJpeg
from .native import native_module
from .network_input import read_dct
from .options import DEFAULT_OPTIONS, JpegWarning, ReadOptions
from .quantization import Quality
from .reader import Source, choose_reader, open_source
from .resize import fill_gray_chroma, native_targets


class DctBatch(NamedTuple):
    """What became of N files.

    luma: (N, rows, columns, 64), chroma: (N, rows, columns, 128) or None, as `DctInput`'s.
    image_sizes: int64 (N, 2), height and width in pixels of each picture.
        All three hold zeros for a file with an error.
    errors: what is wrong with the files that cannot be read, by their index.
    warnings: what is unusual about files, read or not, by their index.
    """

    luma: np.ndarray
    chroma: np.ndarray | None
    image_sizes: np.ndarray
    errors: dict[int, JpegError]
    warnings: dict[int, list[JpegWarning]]


def read_dct_batch(
    sources: Sequence[Source],
    size: int | tuple[int, int] = 300,
    *,
    antialias: bool = False,
    requantize: Quality = None,
    resize: Resize | Sequence[Resize] | None = None,
    out: tuple[np.ndarray, np.ndarray | None] | None = None,
    chroma: bool = True,
    reader: str = "auto",
    options: ReadOptions = DEFAULT_OPTIONS,
    threads: int | None = None,
) -> DctBatch:
    """`read_dct` for many files at once: the same numbers, in one array for all.

    Threads of the native part decode and resize the first files while Python still opens the others.  A file that
    cannot be read raises nothing: its error is in the result.

    Args:
        sources: bytes, or paths.
        size, antialias, requantize, chroma, reader, options: those of `read_dct`.
        resize: everything at once in place of `size` and `antialias`; one for all files, or one for each, of one size.
        out: buffers of all files to write into: luma (N, rows, columns, 64) and chroma (N, rows, columns, 128) or None.
        threads: that work at the same time, this one among them; None: one per processor.

    Raises:
        ValueError: a crop outside an image, buffers that do not fit, or another number of resizes than of files.
    """
    if resize is None:
        resize = Resize((size, size) if isinstance(size, int) else (size[0], size[1]), antialias)
    resizes = [resize] * len(sources) if isinstance(resize, Resize) else list(resize)
    if len(resizes) != len(sources) or len({each.size for each in resizes}) > 1:
        raise ValueError(f"{len(sources)} files want one resize or {len(sources)} of one size, not {len(resizes)}")
    luma, colours = out if out is not None else _buffers(resizes, chroma)
    if len(luma) != len(sources) or (colours is not None and len(colours) != len(sources)):
        raise ValueError(f"the buffers are for {len(luma)} files, not for {len(sources)}")
    image_sizes = np.zeros((len(sources), 2), np.int64)

    def item(i: int) -> tuple[np.ndarray, np.ndarray | None]:
        return luma[i], None if colours is None else colours[i]

    def prepare(i: int, opened: OpenedJpeg) -> list:
        header = opened.header
        image_sizes[i] = header.image_size
        if header.components == 1 and colours is not None:
            fill_gray_chroma(colours[i], resizes[i], requantize)
        return native_targets(*item(i), resizes[i], header.image_size, header.sampling, requantize, header.orientation)

    def alone(i: int, opened: OpenedJpeg) -> None:
        found: list[JpegWarning] = []
        try:
            image_sizes[i] = read_dct(
                opened.data, resize=resizes[i], requantize=requantize, out=item(i), chroma=colours is not None,
                reader=reader, options=options, warnings=found,
            ).image_size  # fmt: skip
        except JpegError as error:
            raise type(error)(opened.name, error.reason) from None
        opened.warnings[:] = found

    errors, warnings = _read_all(sources, choose_reader(reader), options, threads, prepare, alone)
    for i in errors:
        image_sizes[i] = 0
        for buffer in item(i):
            if buffer is not None:
                buffer[...] = 0
    return DctBatch(luma, colours, image_sizes, errors, warnings)


def _buffers(resizes: Sequence[Resize], chroma: bool) -> tuple[np.ndarray, np.ndarray | None]:
    luma_grid, chroma_grid = (resizes[0] if resizes else Resize()).grids()
    count = len(resizes)
    colours = np.empty((count, *chroma_grid, 128), np.int16) if chroma else None
    return np.empty((count, *luma_grid, 64), np.int16), colours


def _read_all(
    sources: Sequence[Source],
    reader: str,
    options: ReadOptions,
    threads: int | None,
    prepare: Callable[[int, OpenedJpeg], Any],
    alone: Callable[[int, OpenedJpeg], None],
) -> tuple[dict[int, JpegError], dict[int, list[JpegWarning]]]:
    """Reads all files by what `prepare` makes of each (the native targets), or by `alone` where that cannot be.

    Returns:
        What is wrong with files, and what is unusual about files, by their index.
    """
    opened_files: dict[int, OpenedJpeg] = {}
    errors: dict[int, JpegError] = {}
    native = native_module() if reader == "native" else None
    batch = None if native is None else native.Batch(threads or os.cpu_count() or 1)
    begun: list[tuple[int, Any]] = []
    try:
        for i, source in enumerate(sources):
            try:
                opened_files[i] = opened = open_source(source, options, f"<bytes {i}>")
                if batch is None or opened.header.colour == "rgb":
                    alone(i, opened)
                    continue
                file = opened.native_file()
                batch.add(file, prepare(i, opened))
                begun.append((i, file))
            except JpegError as error:
                errors[i] = error
    finally:
        reasons = [] if batch is None else batch.finish()
    for (i, file), reason in zip(begun, reasons, strict=True):
        opened_files[i].keep_warnings(file)
        if reason is not None:
            errors[i] = opened_files[i].damaged(reason)
    return errors, {i: opened.warnings for i, opened in opened_files.items() if opened.warnings}
