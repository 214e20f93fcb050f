"""A classifier's sets: folders that are classes, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.annotations import DatasetIssues
from ..data.imagenet import ClassFolders, class_folders_in, read_class_folders, read_class_index, shown
from ..errors import DatasetError
from .config import DataSettings, ImageSet
from .image_headers import Progress, headers

Row = tuple[str, str]  # (a class's folder, its name)


def read_folders(
    settings: DataSettings, missing: Sequence[str], problems: DatasetIssues, wrong: list[str], progress: Progress
) -> tuple[ClassFolders, ClassFolders | None, tuple[str, ...], list[str]] | None:
    """(training images, those to evaluate, class names in label order, notes), of the sets whose root is not `missing`.

    A folder's class hangs on its name alone.  The classes are those of `data.class_index`, or the folders that
    `data.classes` lists, or, with 'all', the training sets' folders, of which each must then have the same.  A folder
    that is no class is appended to `wrong`, and a class without a training image, unless an index names it.
    """
    held = _held_folders(settings, missing, wrong)
    rows, source = _classes(settings, held, wrong)
    if not rows:
        return None
    parts, notes = [], []
    for name in ("train", "evaluate"):
        sets = getattr(settings, name)
        found = _read([each for each in sets if each in held], rows, source, wrong)
        part = _usable(found, rows, settings, problems, progress)
        absent = sorted({folder for folder, _ in rows} - {path.parent.name for path in part.paths})
        if absent and sets and len(found) == len(sets):
            line = f"data.{name}: no image in {shown(absent)}, expected some of each class ({source})"
            (notes if name == "evaluate" or settings.class_index else wrong).append(line)
        parts.append(part if sets else None)
    return parts[0], parts[1], tuple(name for _, name in rows), notes


def _held_folders(settings: DataSettings, missing: Sequence[str], wrong: list[str]) -> dict[ImageSet, list[str]]:
    """The names of each set's folders."""
    held = {}
    for each in dict.fromkeys((*settings.train, *settings.evaluate)):
        try:
            if each.root not in missing:
                held[each] = class_folders_in(_folder(each))
        except DatasetError as error:
            wrong.append(str(error))
    return held


def _classes(settings: DataSettings, held: Mapping[ImageSet, list[str]], wrong: list[str]) -> tuple[list[Row], str]:
    """(the classes in label order, where they come from)."""
    if settings.class_index:
        try:
            return read_class_index(settings.class_index), settings.class_index
        except DatasetError as error:
            wrong.append(f"{error} (data.class_index)")
            return [], settings.class_index
    if not isinstance(settings.classes, str):
        return [(folder, folder) for folder in settings.classes], "data.classes"
    sets = [each for each in settings.train if each in held]
    if not sets:
        return [], ""
    # Sets that differ may be parts of one whole, or a name misspelt: only whoever lists the classes can say which.
    for each in sets[1:]:
        if apart := set(held[each]) ^ set(held[sets[0]]):
            wrong.append(
                f"{_folder(each)}: its folders are not those of {_folder(sets[0])} (only one of them has "
                f"{shown(sorted(apart))}), expected the same, or data.classes to list them all"
            )
    folders = sorted({folder for each in sets for folder in held[each]})
    return [(folder, folder) for folder in folders], "the training sets"


def _read(sets: Sequence[ImageSet], rows: Sequence[Row], source: str, wrong: list[str]) -> list[ClassFolders]:
    found = []
    for each in sets:
        try:
            found.append(read_class_folders(_folder(each), rows, source))
        except DatasetError as error:
            wrong.append(str(error))
    return found


def _usable(
    part: Sequence[ClassFolders],
    rows: Sequence[Row],
    settings: DataSettings,
    problems: DatasetIssues,
    progress: Progress,
) -> ClassFolders:
    """The sets as one, without the pictures that cannot be read."""
    usable = ClassFolders([], [], [name for _, name in rows])
    for folders in part:
        found = headers(folders.paths, settings.coefficients == "native", progress)
        for header, path, label in zip(found, folders.paths, folders.labels):
            if isinstance(header, str):
                problems.report("unusable picture", header)
            else:
                usable.paths.append(path)
                usable.labels.append(label)
    return usable


def _folder(each: ImageSet) -> Path:
    return Path(each.root, each.set)
