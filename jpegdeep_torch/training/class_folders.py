"""A classifier's sets: folders that are classes, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.imagenet import ClassFolders, class_folders_in, read_class_folders, read_class_index, shown
from ..errors import DatasetError
from .config import DataSettings, ImageSet
from .pictures import PictureCheck


def read_folders(
    settings: DataSettings, missing: Sequence[str], check: PictureCheck, wrong: list[str]
) -> tuple[ClassFolders, ClassFolders | None, tuple[str, ...], list[str]] | None:
    """(training images, those to evaluate, class names in label order, notes), of the sets whose root is not `missing`.

    A folder's class hangs on its name alone.  The classes are those of `data.class_index`, or the folders that
    `data.classes` lists, or, with 'all', the training sets' folders, of which each must then have the same.  A folder
    that is no class is appended to `wrong`, and a class without a training image, unless an index names it.
    """
    held: dict[ImageSet, list[str]] = {}  # the names of each set's folders
    for each in dict.fromkeys((*settings.train, *settings.evaluate)):
        try:
            if each.root not in missing:
                held[each] = class_folders_in(_folder(each))
        except DatasetError as error:
            wrong.append(str(error))
    rows, source = _classes(settings, held, wrong)
    if not rows:
        return None
    names, notes = [name for _, name in rows], list[str]()
    parts: dict[str, ClassFolders] = {}
    for part in ("train", "evaluate"):
        sets = getattr(settings, part)
        found, whole = ClassFolders([], [], names), True
        for each in sets:
            try:
                read = read_class_folders(_folder(each), rows, source) if each in held else None
            except DatasetError as error:
                wrong.append(str(error))
                read = None
            whole &= read is not None
            found.paths.extend(read.paths if read else ())
            found.labels.extend(read.labels if read else ())
        usable = check.usable(found.paths)
        kept = [place for place, is_usable in enumerate(usable) if is_usable]
        found = ClassFolders([found.paths[place] for place in kept], [found.labels[place] for place in kept], names)
        absent = sorted({folder for folder, _ in rows} - {path.parent.name for path in found.paths})
        if absent and sets and whole:
            line = f"data.{part}: no image in {shown(absent)}, expected some of each class ({source})"
            (notes if part == "evaluate" or settings.class_index else wrong).append(line)
        parts[part] = found
    return parts["train"], parts["evaluate"] if settings.evaluate else None, tuple(names), notes


def _classes(
    settings: DataSettings, held: Mapping[ImageSet, list[str]], wrong: list[str]
) -> tuple[list[tuple[str, str]], str]:
    """((folder, name) of the classes in label order, where they come from)."""
    if settings.class_index:
        try:
            return read_class_index(settings.class_index), settings.class_index
        except DatasetError as error:
            wrong.append(f"{error} (data.class_index)")
            return [], settings.class_index
    if not isinstance(settings.classes, str):
        return [(folder, folder) for folder in settings.classes], "data.classes"
    sets = [each for each in settings.train if each in held]
    # Sets that differ may be parts of one whole, or a name misspelt: only whoever lists the classes can say which.
    for each in sets[1:]:
        if apart := set(held[each]) ^ set(held[sets[0]]):
            wrong.append(
                f"{_folder(each)}: its folders are not those of {_folder(sets[0])} (only one of them has "
                f"{shown(sorted(apart))}), expected the same, or data.classes to list them all"
            )
    folders = sorted({folder for each in sets for folder in held[each]})
    return [(folder, folder) for folder in folders], "the training sets"


def _folder(each: ImageSet) -> Path:
    return Path(each.root, each.set)
