"""ImageNet-style folders: a folder of JPEGs for each class."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .dataset import JPEG_SUFFIXES

_SHOWN = 20  # folders that an error names


@dataclass(frozen=True)
class ClassFolders:
    """JPEGs and their classes.

    labels: `labels[i]` is the class of `paths[i]`, from 0, an index into a classifier's outputs.
    class_names: of classes 0, 1, ...
    """

    paths: list[Path]
    labels: list[int]
    class_names: list[str]


def read_imagenet(
    root: str | os.PathLike[str], num_classes: int, class_index: str | os.PathLike[str] | None = None
) -> ClassFolders:
    """The JPEGs under `root`, sorted by folder and name.

    Args:
        root: a folder with a folder of JPEGs for each class.
        num_classes: of the network.
        class_index: a file that says which folder is which class; folders of some classes may then be missing.  It is
            Keras's imagenet_class_index.json ({"0": ["n01440764", "tench"], ...}), a JSON list of folder names, or a
            text file with one folder name per line, and the class's name after a space (default: the folders, sorted,
            are the classes).

    Raises:
        DatasetError: folders and classes do not fit.
    """
    if class_index is not None:
        rows = read_class_index(class_index)
        if len(rows) != num_classes:
            raise DatasetError(f"{class_index}: has {len(rows)} classes, expected the network's {num_classes}")
        return read_class_folders(root, rows, str(class_index))
    folders = class_folders_in(root)
    if len(folders) != num_classes:
        raise DatasetError(
            f"{root}: has {len(folders)} folders, expected {num_classes}, one for each class of the network; "
            "a class index file says which classes a part of them is"
        )
    return read_class_folders(root, [(folder, folder) for folder in folders])


def class_folders_in(root: str | os.PathLike[str]) -> list[str]:
    """The names of the folders in `root`, sorted; DatasetError where there is none."""
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder, expected one with a folder for each class")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    if not folders:
        raise DatasetError(f"{root}: has no folders, expected one for each class")
    return folders


def read_class_folders(
    root: str | os.PathLike[str], rows: Sequence[tuple[str, str]], source: str = "the classes"
) -> ClassFolders:
    """The JPEGs under `root`, sorted by folder and name.

    Args:
        rows: (folder name, class name) of classes 0, 1, ...
        source: where the rows come from, for messages.

    Raises:
        DatasetError: a folder is none of `rows`, or there is no JPEG.
    """
    root = Path(root)
    label_of = {folder: label for label, (folder, _) in enumerate(rows)}
    folders = class_folders_in(root)
    if unknown := [folder for folder in folders if folder not in label_of]:
        raise DatasetError(f"{root}: {len(unknown)} folders are not in {source}: {shown(unknown)}")
    paths, labels = [], []
    for folder in folders:
        files = sorted(path for path in (root / folder).iterdir() if path.suffix.lower() in JPEG_SUFFIXES)
        paths += files
        labels += [label_of[folder]] * len(files)
    if not paths:
        raise DatasetError(f"{root}: no JPEG in any of its {len(folders)} folders")
    return ClassFolders(paths, labels, [name for _, name in rows])


def shown(names: Sequence[str]) -> str:
    """The first 20 of them, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def read_class_index(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """(folder name, class name) of classes 0, 1, ... from a file in any of the forms of `read_imagenet`."""
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, expected a class index")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix.lower() != ".json":
            found: list[Any] = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        elif isinstance(data := json.loads(text), list):
            found = [(name,) for name in data]
        else:
            found = [(data[str(label)][0], data[str(label)][1]) for label in range(len(data))]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        expected = '{"0": ["folder", "name"], ...} or a list of folder names'
        raise DatasetError(
            f"{path}: not a class index ({type(error).__name__}: {error}), expected {expected}"
        ) from None
    rows = [(str(row[0]), str(row[-1]).strip()) for row in found]
    if len({folder for folder, _ in rows}) != len(rows):
        raise DatasetError(f"{path}: names a folder twice, expected one class each")
    return rows
