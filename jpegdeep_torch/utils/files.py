"""Files that appear whole or not at all, and what identifies them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, DatasetError


def check_target(path: str | os.PathLike[str]) -> Path:
    """`path`, where a file of that name can be written; before long work, so that it is not lost.

    Raises:
        CheckpointError: it is a folder, or there is no folder for it.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected the name of a file to write")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: the folder {path.parent} does not exist")
    return path


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and vanishes when it does not."""
    path = check_target(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files for their owner only
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Makes the folder `path`, and those above it, where it is not there yet; DatasetError where it cannot be made."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be made ({error.strerror or error})") from None
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a file, whole or not at all, in UTF-8; DatasetError where it cannot be written."""
    try:
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error})") from None
    return Path(path)


def write_json(path: str | os.PathLike[str], record: Any) -> None:
    """`write_text` of JSON on one line.  NaN becomes null: JSON has no NaN."""
    write_text(path, json.dumps(_finite(record), allow_nan=False) + "\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
