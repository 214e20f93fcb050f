"""Many JPEGs in few files: tar shards in WebDataset's form, folders, and Parquet files of JPEGs or of their addresses.

A shard is read from its beginning to its end, ahead of whoever takes its files, in any storage (`utils.storage`).
"""

from __future__ import annotations

import os
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import DatasetError, MissingExtra, StorageError
from ..utils.storage import DEFAULT_RETRY, Retry, file_name, find_files, glob_files, is_remote, join, opened, read_file
from .dataset import JPEG_SUFFIXES

SHARD_SUFFIXES = (".tar", ".parquet")
BYTES_COLUMNS = ("bytes", "image", "jpg", "jpeg", "content")  # of a Parquet file; the first that is there
ADDRESS_COLUMNS = ("url", "uri", "path", "file")
NAME_COLUMNS = ("path", "file", "key", "__key__", "url", "uri", "id")
_FETCHES = 16  # files that are fetched at the same time, where each is a request of its own
_LARGEST_FILE_BYTES = 256 << 20
_ROWS = 64  # of a Parquet file, in memory at a time
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard.

    name: the tar member's, the path from the folder on, or what a Parquet file calls it (a name, an address, a number).
    data: the JPEG; None where it could not be fetched, and `error` says why.
    """

    name: str
    data: bytes | None
    error: str | None = None


def is_shard(name: str) -> bool:
    """Whether `name` can only mean shards: a tar or Parquet file, a pattern in braces, or an address in storage."""
    in_storage = is_remote(name) and not name.startswith(("http://", "https://"))
    return in_storage or name.lower().endswith(SHARD_SUFFIXES) or (".." in name and bool(_BRACES.search(name)))


def expand_shards(patterns: Iterable[str], retry: Retry = DEFAULT_RETRY) -> list[str]:
    """The shards that patterns name: {0000..0999} counts, {a,b} lists, * and ? look for files.  The rest is itself.

    Raises:
        DatasetError: a pattern fits nothing, or a name is neither a tar, nor a Parquet file, nor a folder.
    """
    shards: list[str] = []
    for pattern in patterns:
        for name in _braces(pattern):
            found = glob_files(name, retry) if any(c in name for c in "*?") else [name]
            if not found:
                raise DatasetError(f"{name}: fits no file")
            shards += found
    for shard in shards:
        suffix = os.path.splitext(file_name(shard))[1].lower()
        if suffix not in SHARD_SUFFIXES and not is_remote(shard) and os.path.isfile(shard):
            raise DatasetError(f"{shard}: expected a folder, or a file ending in {' or '.join(SHARD_SUFFIXES)}")
    return shards


def _braces(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, dots, last = found[1].partition("..")
    if dots and first.isdigit() and last.isdigit():
        if int(last) < int(first):
            raise DatasetError(f"{pattern}: {{{found[1]}}} counts down, expected the smaller number first")
        values: Iterable[str] = (f"{k:0{len(first)}d}" for k in range(int(first), int(last) + 1))
    elif "," in found[1]:
        values = found[1].split(",")
    else:
        raise DatasetError(f"{pattern}: {{{found[1]}}}, expected {{0000..0999}} or {{a,b}}")
    for value in values:
        yield from _braces(pattern[: found.start()] + value + pattern[found.end() :])


def read_shard(shard: str, retry: Retry = DEFAULT_RETRY) -> Iterator[ShardFile]:
    """The JPEGs of a shard, in its order.

    Raises:
        StorageError: the shard is not there, cannot be read to its end, or is no shard.
    """
    suffix = os.path.splitext(file_name(shard))[1].lower()
    if suffix == ".tar":
        yield from _read_tar(shard, retry)
    elif suffix == ".parquet":
        yield from _read_parquet(shard, retry)
    else:
        files = ((name, url) for name, url in find_files(shard, retry) if _is_jpeg(name))
        yield from _fetched(files, retry)


def _is_jpeg(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in JPEG_SUFFIXES


def _read_tar(shard: str, retry: Retry) -> Iterator[ShardFile]:
    try:
        with opened(shard, retry) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isfile() and _is_jpeg(member.name):
                    if member.size > _LARGEST_FILE_BYTES:
                        reason = f"{member.size} bytes, expected at most {_LARGEST_FILE_BYTES}"
                        yield ShardFile(member.name, None, reason)
                        continue
                    content = tar.extractfile(member)
                    data = content.read() if content is not None else b""
                    if len(data) != member.size:
                        raise StorageError(f"{shard}: ends in the middle of {member.name}")
                    yield ShardFile(member.name, data)
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            # tarfile takes any header that it cannot read for the end.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise StorageError(f"{shard}: cut off or damaged after byte {tar.offset}")
    except (tarfile.TarError, EOFError) as error:
        raise StorageError(f"{shard}: not a tar file, or damaged ({error})") from None
    except OSError as error:
        raise StorageError(f"{shard}: cannot be read ({error.strerror or error})") from None


def _fetched(files: Iterable[tuple[str, str]], retry: Retry) -> Iterator[ShardFile]:
    """Files that are a request each, several at a time, in their order."""

    def fetch(name: str, url: str) -> ShardFile:
        try:
            return ShardFile(name, read_file(url, retry))
        except StorageError as error:
            return ShardFile(name, None, f"cannot be fetched ({str(error).removeprefix(f'{url}: ')})")

    yield from _in_threads(lambda file: fetch(*file), files)


def _in_threads(action: Callable[[Any], ShardFile], items: Iterable[Any]) -> Iterator[ShardFile]:
    with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as threads:
        waiting: deque[Future[ShardFile]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(action, item))
                if len(waiting) >= _FETCHES:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def parquet_modules() -> tuple[Any, Any]:
    """(pyarrow, pyarrow.parquet).  MissingExtra."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Parquet files need pyarrow: pip install 'jpegdeep-torch[scale]'") from None
    return pyarrow, pyarrow.parquet


def _read_parquet(shard: str, retry: Retry) -> Iterator[ShardFile]:
    pyarrow, parquet = parquet_modules()
    try:
        with opened(shard, retry) as file:
            table = parquet.ParquetFile(file)
            columns = table.schema_arrow.names
            content = next((name for name in BYTES_COLUMNS if name in columns), None)
            address = next((name for name in ADDRESS_COLUMNS if name in columns), None)
            if content is None and address is None:
                wanted = f"{', '.join(BYTES_COLUMNS)} (JPEGs), {', '.join(ADDRESS_COLUMNS)} (where they are)"
                raise StorageError(f"{shard}: its columns are {', '.join(columns)}, expected one of {wanted}")
            named = next((name for name in NAME_COLUMNS if name in columns and name != content), None)
            wanted_columns = sorted({name for name in (content, named if content else address) if name})
            rows = (row for batch in table.iter_batches(_ROWS, columns=wanted_columns) for row in batch.to_pylist())
            if content is not None:
                for number, row in enumerate(rows):
                    yield _of_row(row[content], str(row[named]) if named else str(number))
                return
            folder = shard.rpartition("/")[0]
            addresses = (str(row[address]) for row in rows)
            yield from _fetched(((name, _absolute(name, folder)) for name in addresses), retry)
    except pyarrow.ArrowException as error:
        raise StorageError(f"{shard}: not a Parquet file, or damaged ({error})") from None
    except OSError as error:
        raise StorageError(f"{shard}: cannot be read ({error.strerror or error})") from None


def _of_row(value: Any, name: str) -> ShardFile:
    """A JPEG column's value: bytes, or as Hugging Face's datasets have images, {'bytes', 'path'}."""
    if isinstance(value, dict):
        value, name = value.get("bytes"), str(value.get("path") or name)
    return ShardFile(name, value) if isinstance(value, bytes) else ShardFile(name, None, "no bytes in this row")


def _absolute(name: str, folder: str) -> str:
    return name if is_remote(name) or os.path.isabs(name) or not folder else join(folder, name)


def output_names(shards: Iterable[str]) -> dict[str, str]:
    """{the name of a shard's results without suffix: the shard}.  DatasetError for two shards of one name."""
    named: dict[str, str] = {}
    for shard in shards:
        stem = os.path.splitext(file_name(shard))[0] if shard.lower().endswith(SHARD_SUFFIXES) else file_name(shard)
        if named.setdefault(stem, shard) != shard:
            raise DatasetError(f"{shard} and {named[stem]}: results of both would be named {stem}")
    return named
