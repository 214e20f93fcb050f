"""Streams of JPEG frames: concatenated JPEGs, multipart (what IP cameras send over HTTP), and AVI with MJPG frames.

`read_frames` gives them one after the other.  `LiveFrames` reads a stream that does not wait for its reader:
it keeps the newest frame, and drops and counts the others.
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import HeaderParser
from typing import BinaryIO

from ..errors import StreamError

MJPEG_SUFFIXES = (".mjpeg", ".mjpg", ".avi")
_CHUNK_BYTES = 1 << 16
_LARGEST_FRAME_BYTES = 64 << 20
_LARGEST_HEADERS_BYTES = 16 << 10
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST0 to RST7, SOI
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither stuffing nor a restart


@dataclass(frozen=True)
class Frame:
    """One JPEG of a stream.

    number: counted from 0 over all that the stream held, dropped frames and an AVI's empty ones among them.
    time_s: seconds since the first frame: by an AVI's frame rate, or by when the frame came.
    data: the JPEG.
    stream: the stream's path or address.
    live: it comes from a stream that does not wait, of which only the newest frame counts.
    dropped: how many frames were dropped since the one before.
    """

    number: int
    time_s: float
    data: bytes = field(repr=False)
    stream: str = "<bytes>"
    live: bool = False
    dropped: int = 0

    def __str__(self) -> str:
        return f"{self.stream}, frame {self.number}"


def is_stream(source: object) -> bool:
    """Whether `source` names a stream: an http or https address, or a file with one of MJPEG_SUFFIXES."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    name = os.fspath(source)
    return isinstance(name, str) and (is_address(name) or name.lower().endswith(MJPEG_SUFFIXES))


def is_address(name: str) -> bool:
    """Whether `name` is an http or https address."""
    return name.startswith(("http://", "https://"))


def read_frames(source: str | os.PathLike[str], timeout_s: float = 10.0) -> Iterator[Frame]:
    """The frames of a file or of an http(s) address, as they come; memory holds one of them.

    The kind is told from the content: AVI, multipart, or JPEGs one after the other.

    Args:
        source: a path, or an address.
        timeout_s: of an address, how long nothing may come before the stream counts as broken off.

    Raises:
        StreamError: it cannot be opened, is of another kind, or breaks off; after the frames that were whole.
    """
    name = os.fspath(source)
    file, content_type = _open_stream(name, timeout_s)
    with file:
        stream = _Buffer(file, name)
        started = None
        for number, time_s, data in _frames_of(stream, content_type):
            now = time.monotonic()
            started = now if started is None else started
            yield Frame(number, now - started if time_s is None else time_s, data, name)


class LiveFrames:
    """The newest frame of a stream, whenever it is asked for; an iterator and a context manager.

    A thread reads the stream as fast as it comes.  A frame that was not asked for before the next came is dropped, and
    counted: `dropped` has all of them, and a frame's `dropped` those since the frame before it.  Iteration ends with
    the stream, or raises the StreamError that it ended with.
    """

    def __init__(self, source: str | os.PathLike[str], timeout_s: float = 10.0):
        self.dropped = 0
        self._frames = read_frames(source, timeout_s)
        self._newest: Frame | None = None
        self._dropped_before = 0
        self._error: Exception | None = None
        self._ended = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="live frames", daemon=True)
        self._thread.start()

    def __enter__(self) -> LiveFrames:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __iter__(self) -> LiveFrames:
        return self

    def __next__(self) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            frame, self._newest = self._newest, None
            if frame is not None:
                dropped, self._dropped_before = self.dropped - self._dropped_before, self.dropped
                return replace(frame, live=True, dropped=dropped)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def close(self) -> None:
        """Ends the reading; it stops with the next frame, or after the time-out."""
        self._closed = True

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._newest is not None:
                        self.dropped += 1
                    self._newest = frame
                    self._changed.notify()
                if self._closed:
                    break
        except Exception as error:  # given to whoever asks for the next frame
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


def _open_stream(name: str, timeout_s: float) -> tuple[BinaryIO, Message]:
    """(the open stream, its headers; of a file, none)."""
    try:
        if not is_address(name):
            return open(name, "rb"), Message()
        response = urllib.request.urlopen(name, timeout=timeout_s)
        return response, response.headers
    except urllib.error.HTTPError as error:
        raise StreamError(f"{name}: the server answered {error.code} {error.reason}, expected JPEG frames") from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise StreamError(f"{name}: cannot be opened ({reason})") from None


class _Buffer:
    """A stream with a look ahead; what it ends with in the middle of a frame is an error that names it."""

    def __init__(self, file: BinaryIO, name: str):
        self.file, self.name, self.data, self.frames = file, name, bytearray(), 0

    def fill(self, count: int) -> bool:
        """Has at least `count` bytes at hand -> whether the stream holds as many."""
        while len(self.data) < count:
            try:
                # read1 of a socket gives what has come, rather than waiting for all that was asked for.
                read = getattr(self.file, "read1", self.file.read)
                more = read(max(_CHUNK_BYTES, 1))
            except (OSError, ValueError) as error:
                raise self.broken(str(error)) from None
            if not more:
                return False
            self.data += more
        return True

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if not self.fill(count):
            raise self.broken("it ended in the middle of a frame")
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    def take_line(self) -> bytes | None:
        """The next line without its end; None at the end of the stream."""
        place = self.find(b"\n", _LARGEST_HEADERS_BYTES)
        if place < 0:
            return None
        return self.take(place + 1).rstrip(b"\r\n")

    def find(self, what: bytes, most: int) -> int:
        """Where `what` begins, or -1 where the stream ends before; StreamError past `most` bytes."""
        start = 0
        while (place := self.data.find(what, start)) < 0:
            if len(self.data) > most:
                raise StreamError(f"{self.name}: no frame ends within {most} bytes, expected JPEG frames")
            start = max(0, len(self.data) - len(what) + 1)
            if not self.fill(len(self.data) + 1):
                return -1
        return place

    def broken(self, why: str) -> StreamError:
        return StreamError(f"{self.name}: broke off after {self.frames} frames: {why}")


def _frames_of(stream: _Buffer, headers: Message) -> Iterator[tuple[int, float | None, bytes]]:
    """(number, seconds since the first frame where the stream says so, JPEG) of each frame."""
    boundary = headers.get_param("boundary")
    if headers.get_content_maintype() == "multipart" and boundary:
        kind = _multipart(stream, str(boundary).strip('"').removeprefix("--").encode("latin-1"))
    elif not stream.fill(12):
        raise StreamError(f"{stream.name}: {len(stream.data)} bytes, expected JPEG frames")
    elif stream.data[:4] == b"RIFF" and stream.data[8:12] == b"AVI ":
        yield from _avi(stream)
        return
    elif stream.data[:2] == b"--":  # a multipart answer that was written to a file
        line = bytes(stream.data[2 : stream.find(b"\n", _LARGEST_HEADERS_BYTES)])
        kind = _multipart(stream, line.rstrip(b"\r\n"))
    elif stream.data[:2] == b"\xff\xd8":
        kind = _concatenated(stream)
    else:
        raise StreamError(f"{stream.name}: begins with {bytes(stream.data[:12])!r}, expected JPEGs, multipart or AVI")
    for number, data in enumerate(kind):
        stream.frames = number + 1
        yield number, None, data


def _concatenated(stream: _Buffer) -> Iterator[bytes]:
    """JPEGs one after the other; bytes between them that begin no JPEG are passed over."""
    while True:
        place = stream.find(b"\xff\xd8\xff", _LARGEST_FRAME_BYTES)
        if place < 0:
            return
        stream.take(place)
        yield stream.take(_jpeg_length(stream))


def _jpeg_length(stream: _Buffer) -> int:
    """Bytes of the JPEG that `stream` stands at, its end of image included: ITU-T T.81, annex B."""
    position, marker_pattern = 2, _MARKER
    while True:
        found = marker_pattern.search(stream.data, position)
        if found is None:
            position = max(2, len(stream.data) - 1)
            if not stream.fill(len(stream.data) + 1):
                raise stream.broken("it ended in the middle of a frame")
        elif found.end() > _LARGEST_FRAME_BYTES:
            raise StreamError(f"{stream.name}: a frame of more than {_LARGEST_FRAME_BYTES} bytes")
        else:
            marker, position = stream.data[found.end() - 1], found.end()
            if marker == _EOI:
                return position
            if marker in _STANDALONE:
                continue
            if not stream.fill(position + 2):
                raise stream.broken("it ended in the middle of a frame")
            position += struct.unpack_from(">H", stream.data, position)[0]
            marker_pattern = _MARKER_IN_SCAN if marker == _SOS else _MARKER


def _multipart(stream: _Buffer, boundary: bytes) -> Iterator[bytes]:
    """The parts' contents (RFC 2046, section 5.1); by Content-Length where a part has one, else up to the boundary."""
    delimiter = b"--" + boundary
    place = stream.find(delimiter, _LARGEST_FRAME_BYTES)
    if place < 0:
        raise StreamError(f"{stream.name}: has no boundary {boundary!r}, expected multipart JPEG frames")
    stream.take(place)
    while True:
        line = stream.take_line()
        while line == b"":
            line = stream.take_line()
        if line is None or line.startswith(delimiter + b"--"):
            return
        if not line.startswith(delimiter):
            raise StreamError(f"{stream.name}: {line[:60]!r} between two parts, expected {delimiter!r}")
        lines = []
        while line := stream.take_line():
            lines.append(line.decode("latin-1"))
        if line is None:
            return
        length = HeaderParser().parsestr("\n".join(lines)).get("Content-Length", "").strip()
        if length.isdigit() and int(length) <= _LARGEST_FRAME_BYTES:
            yield stream.take(int(length))
            continue
        end = stream.find(b"\n" + delimiter, _LARGEST_FRAME_BYTES)
        if end < 0:
            raise stream.broken("it ended in the middle of a frame")
        data = stream.take(end)
        stream.take(1)
        yield data.removesuffix(b"\r")


def _avi(stream: _Buffer) -> Iterator[tuple[int, float, bytes]]:
    """The frames of the video stream (Microsoft's AVI RIFF File Reference; OpenDML's further RIFF lists too)."""
    period_s, number, is_video = 0.0, 0, False
    while stream.fill(8):
        kind, size = struct.unpack("<4sI", stream.take(8))
        if kind in (b"RIFF", b"LIST"):
            stream.take(4)  # the list's type: what is in it follows as if there were no list
            continue
        if kind[2:] in (b"dc", b"db") and kind[:2].isdigit():
            if size > _LARGEST_FRAME_BYTES:
                raise StreamError(f"{stream.name}: a frame of {size} bytes, expected at most {_LARGEST_FRAME_BYTES}")
            data = stream.take(size)
            if size:  # an empty one repeats the frame before it
                yield number, number * period_s, data
                stream.frames += 1
            number += 1
        elif kind == b"avih" and size >= 4:
            period_s = struct.unpack("<I", stream.take(size)[:4])[0] / 1e6
        elif kind == b"strh" and size >= 4:
            is_video = stream.take(size)[:4] == b"vids"
        elif kind == b"strf" and is_video and size >= 20:
            codec = stream.take(size)[16:20]
            if codec.upper() not in (b"MJPG", b"JPEG"):
                raise StreamError(f"{stream.name}: its frames are {codec!r}, expected MJPG")
        else:
            _skip(stream, size)
        if size % 2:
            _skip(stream, 1)


def _skip(stream: _Buffer, count: int) -> None:
    """Passes over `count` bytes, or what there is of them."""
    while count > 0 and stream.fill(1):
        step = min(count, len(stream.data))
        del stream.data[:step]
        count -= step


def frames_in(data: bytes, name: str = "<bytes>") -> Iterator[Frame]:
    """`read_frames` of a stream that is in memory already; without times."""
    stream = _Buffer(io.BytesIO(data), name)
    for number, time_s, jpeg in _frames_of(stream, Message()):
        yield Frame(number, time_s or 0.0, jpeg, name)
