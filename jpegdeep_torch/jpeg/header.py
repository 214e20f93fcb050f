"""One JPEG, judged before any reader or decoder is chosen: so that all of them give the same verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import JpegError
from .entropy import check_entropy_coding
from .markers import JpegHeader, find_end, has_restart_markers, parse_header
from .native import native_module
from .options import DEFAULT_OPTIONS, JpegWarning, ReadOptions

__all__ = ["JpegHeader", "OpenedJpeg", "check_jpeg", "open_jpeg", "read_header"]


@dataclass
class OpenedJpeg:
    """A file whose header has been read, and found to be one that can be decoded.

    name: what messages call it.
    data: its bytes, without what decoders would stumble over (`open_jpeg`).
    warnings: what was unusual about it until now.
    """

    name: object
    data: bytes
    header: JpegHeader
    options: ReadOptions
    warnings: list[JpegWarning] = field(default_factory=list)

    def native_file(self) -> Any:
        """The file for the native decoder (`_native.File`).  JpegError: that one reads another header of it."""
        native = native_module()
        header = self.header
        try:
            file = native.File(self.data, self.options.on_damage)
        except native.DecodeError as error:
            raise self.damaged(error) from None
        if (file.image_size, file.sampling, file.several_scans) != (
            header.stored_size,
            header.sampling,
            header.several_scans,
        ):
            raise JpegError(self.name, "damaged: its markers lead to two different headers")
        return file

    def damaged(self, error: object) -> JpegError:
        """What to raise for what the native decoder said."""
        cut = find_end(self.data, self.header) is None
        return JpegError(self.name, f"truncated after {len(self.data)} bytes ({error})" if cut else str(error))

    def keep_warnings(self, file: Any) -> None:
        """Those of a file that the native decoder has decoded."""
        self.warnings += [JpegWarning(*warning) for warning in file.warnings]

    def decode(self, method: str, *arguments: object):
        """Decodes the file by `method` of the native decoder, whose warnings are kept.  Raises JpegError."""
        file = self.native_file()
        try:
            return getattr(file, method)(*arguments)
        except native_module().DecodeError as error:
            raise self.damaged(error) from None
        finally:
            self.keep_warnings(file)

    def check(self) -> None:
        """Decodes the entropy coding, and nothing after it, for the verdict.

        Afterwards every decoder can be given `data`: an end-of-image marker is there.
        Raises JpegError for damage, as `options` say.
        """
        if native_module() is not None:
            self.decode("check")
        else:
            self.warnings += check_entropy_coding(self.data, self.header, self.options, self.name)
        end = find_end(self.data, self.header)
        if end is None:
            self.data += b"\xff\xd9"


def open_jpeg(data: bytes, name: object = "<bytes>", options: ReadOptions = DEFAULT_OPTIONS) -> OpenedJpeg:
    """Reads a file's header.

    A file that speaks of restart markers and has none is read as one that does not speak of them: decoders would look
    for the first, and find the end of the picture.

    Raises:
        JpegError: as `markers.parse_header`.
    """
    header = parse_header(data, name, options)
    opened = OpenedJpeg(name, data, header, options)
    if header.restart_intervals and not has_restart_markers(data, header) and _intervals(data, header) > 1:
        warning = JpegWarning("a restart interval is stated, but there are no restart markers")
        if options.on_damage == "strict":
            raise JpegError(name, str(warning))
        opened.warnings.append(warning)
        for first, end in reversed(header.restart_intervals):
            opened.data = opened.data[:first] + opened.data[end:]
        opened.header = parse_header(opened.data, name, options)
    return opened


def read_header(
    data: bytes,
    name: object = "<bytes>",
    options: ReadOptions = DEFAULT_OPTIONS,
    *,
    warnings: list[JpegWarning] | None = None,
) -> JpegHeader:
    """The header of a JPEG, and whether its end is there.

    Markers are walked to the end of image.  Where there is none, the scans are decoded to see whether part of the
    picture is missing; damage before the end is not looked for.  `check_jpeg` looks for all of it.

    Args:
        data: the whole file.
        name: what messages call it.
        options: what is refused, and which way up the picture is.
        warnings: what is unusual about the file is appended.

    Raises:
        JpegError: no JPEG, not readable, or cut short.
    """
    opened = open_jpeg(data, name, options)
    if find_end(opened.data, opened.header) is None:
        opened.check()
    if warnings is not None:
        warnings += opened.warnings
    return opened.header


def check_jpeg(
    data: bytes,
    name: object = "<bytes>",
    options: ReadOptions = DEFAULT_OPTIONS,
    *,
    warnings: list[JpegWarning] | None = None,
) -> JpegHeader:
    """The header of a JPEG that every reader and decoder takes under these options.

    Its entropy coding is decoded, which is about a third of the work of decoding pixels.  Arguments and errors are
    those of `read_header`; JpegError also for damage anywhere in the file.
    """
    opened = open_jpeg(data, name, options)
    opened.check()
    if warnings is not None:
        warnings += opened.warnings
    return opened.header


def _intervals(data: bytes, header: JpegHeader) -> int:
    """How many restart intervals a scan of all components has, as the last segment before it says."""
    first, _ = header.restart_intervals[-1]
    interval = int.from_bytes(data[first + 4 : first + 6], "big")
    if not interval:
        return 1
    widest, highest = (max(factors) for factors in zip(*header.sampling))
    if header.components == 1:
        widest = highest = 1
    height, width = header.stored_size
    return -(-(-(-height // (8 * highest)) * -(-width // (8 * widest))) // interval)
