"""Files wherever fsspec finds them (local, s3://, gs://, http): whole or not at all, and tried again when it fails.

Credentials and options are fsspec's own (its configuration files and environment).
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ..errors import MissingExtra, StorageError
from .files import written_whole

Result = TypeVar("Result")
_BLOCK_BYTES = 8 << 20
# What trying again does not mend.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, NotImplementedError)


@dataclass(frozen=True)
class Retry:
    """How often something is tried, and the pause after the first time; it doubles, up to 8 s, with some chance."""

    attempts: int = 6
    pause_s: float = 0.25

    def __call__(self, action: Callable[[], Result], name: str) -> Result:
        """What `action` gives; StorageError, which calls the file `name`, where it fails every time."""
        for attempt in range(self.attempts):
            try:
                return action()
            except StorageError:
                raise
            except FileNotFoundError:
                raise StorageError(f"{name}: no such file") from None
            except Exception as error:  # of any storage's own kind
                if isinstance(error, _FINAL) or attempt + 1 == self.attempts:
                    times = "" if isinstance(error, _FINAL) else f" ({self.attempts} times)"
                    raise StorageError(f"{name}: {str(error) or type(error).__name__}{times}") from None
            time.sleep(min(8.0, self.pause_s * 2**attempt) * random.uniform(0.5, 1.0))
        raise AssertionError


DEFAULT_RETRY = Retry()


def is_remote(url: str) -> bool:
    """Whether `url` names a scheme, such as s3://."""
    return "://" in url


def file_name(url: str) -> str:
    """The last part of a path or an address."""
    return url.rstrip("/").rpartition("/")[2]


def join(folder: str, name: str) -> str:
    """`name` in `folder`."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def _storage(url: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it)."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtra(f"{url}: needs fsspec: pip install 'jpegdeep-torch[scale]'") from None
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtra(f"{url}: {error}") from None
    except ValueError as error:
        raise StorageError(f"{url}: {error}") from None


def read_file(url: str, retry: Retry = DEFAULT_RETRY) -> bytes:
    """A whole file.  StorageError."""
    if not is_remote(url):
        return retry(Path(url).read_bytes, url)
    files, path = _storage(url)
    return retry(lambda: files.cat_file(path), url)


@contextmanager
def opened(url: str, retry: Retry = DEFAULT_RETRY) -> Iterator[BinaryIO]:
    """A file to read from any place in it.  What is read next is fetched ahead.  StorageError, here and on reading."""
    if not is_remote(url):
        with retry(lambda: open(url, "rb"), url) as file:
            yield file
        return
    files, path = _storage(url)
    size = retry(lambda: files.info(path)["size"], url)
    if size is None:  # a server that does not say has no ranges either
        yield io.BytesIO(read_file(url, retry))
        return
    with _RangeReader(files, path, size, url, retry) as raw, io.BufferedReader(raw, 1 << 16) as buffered:
        yield buffered


class _RangeReader(io.RawIOBase):
    """A remote file by blocks, each a request of its own, so that a connection that breaks costs one block."""

    def __init__(self, files: Any, path: str, size: int, url: str, retry: Retry):
        super().__init__()
        self._files, self._path, self._size, self._url, self._retry = files, path, size, url, retry
        self._place, self._number, self._block = 0, -1, b""
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="read ahead")
        self._ahead: tuple[int, Future[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._size:
            return 0
        number, start = divmod(self._place, _BLOCK_BYTES)
        if number != self._number:
            self._block, self._number = self._fetched(number), number
        part = self._block[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _fetched(self, number: int) -> bytes:
        ahead, self._ahead = self._ahead, None
        block = ahead[1].result() if ahead is not None and ahead[0] == number else self._fetch(number)
        if (number + 1) * _BLOCK_BYTES < self._size:
            self._ahead = number + 1, self._threads.submit(self._fetch, number + 1)
        return block

    def _fetch(self, number: int) -> bytes:
        start, end = number * _BLOCK_BYTES, min(self._size, (number + 1) * _BLOCK_BYTES)

        def read() -> bytes:
            data = self._files.cat_file(self._path, start=start, end=end)
            if len(data) == self._size > end - start:  # the server gave all of it
                data = data[start:end]
            if len(data) != end - start:
                raise OSError(f"{len(data)} bytes came, expected {end - start}")
            return data

        return self._retry(read, self._url)


def list_folder(url: str, retry: Retry = DEFAULT_RETRY) -> list[str]:
    """The names of the files directly in a folder; [] where it does not exist.  StorageError."""
    if not is_remote(url):
        return [entry.name for entry in retry(lambda: list(os.scandir(url)), url)] if os.path.isdir(url) else []
    files, path = _storage(url)

    def names() -> list[str]:
        try:
            files.invalidate_cache()
            return [file_name(name) for name in files.ls(path, detail=False)]
        except FileNotFoundError:
            return []

    return retry(names, url)


def find_files(url: str, retry: Retry = DEFAULT_RETRY) -> list[tuple[str, str]]:
    """(the path from the folder on, the url) of all files in a folder and below, by path.  StorageError."""
    files, path = _storage(url)
    found = retry(lambda: sorted(files.find(path)), url)
    if not found:
        raise StorageError(f"{url}: no such folder, or an empty one")
    start = path.rstrip("/")
    return [(name[len(start) :].lstrip("/"), files.unstrip_protocol(name) if is_remote(url) else name)
            for name in found]  # fmt: skip


def glob_files(url: str, retry: Retry = DEFAULT_RETRY) -> list[str]:
    """The urls that a pattern with * or ? fits, by name.  StorageError."""
    files, path = _storage(url)
    found = retry(lambda: sorted(files.glob(path)), url)
    return [files.unstrip_protocol(name) for name in found] if is_remote(url) else found


def write_file(url: str, data: bytes, retry: Retry = DEFAULT_RETRY) -> None:
    """Writes a file, whole or not at all: by renaming, or by one upload, which object storage shows when it is done.

    What a killed process left of the same file is taken away.  StorageError.
    """
    if not is_remote(url):

        def replace() -> None:
            folder = Path(url).parent
            folder.mkdir(parents=True, exist_ok=True)
            for left_over in folder.glob(f".{Path(url).name}.*"):
                left_over.unlink(missing_ok=True)
            with written_whole(url) as temporary:
                temporary.write_bytes(data)

        retry(replace, url)
        return
    files, path = _storage(url)
    retry(lambda: files.pipe_file(path, data), url)


def remove_file(url: str, retry: Retry = DEFAULT_RETRY) -> None:
    """Removes a file, if it is there.  StorageError."""
    if not is_remote(url):
        retry(lambda: Path(url).unlink(missing_ok=True), url)
        return
    files, path = _storage(url)
    retry(lambda: files.rm_file(path) if files.exists(path) else None, url)
