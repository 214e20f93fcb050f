"""The images and annotations of a run, read and checked before any work begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.annotations import AnnotatedImage, Problems
from ..data.classes import KNOWN_CLASSES
from ..data.coco import read_coco
from ..data.imagenet import ClassFolders, read_class_index, read_imagenet
from ..data.voc import class_names_in, find_voc_folder, read_voc
from ..errors import ConfigError, DatasetError
from .config import DataSettings, ImageSet


@dataclass
class TrainingData:
    """train, evaluate: images of a detector, or the folders of a classifier; `evaluate` may be empty (None).

    class_names: in label order.  notes: what was left out, a line each.
    """

    train: list[AnnotatedImage] | ClassFolders
    evaluate: list[AnnotatedImage] | ClassFolders | None
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        def count(part: list[AnnotatedImage] | ClassFolders | None) -> int:
            return 0 if part is None else len(part.paths if isinstance(part, ClassFolders) else part)

        train, evaluate = count(self.train), count(self.evaluate)
        return f"{train} images to train on, {evaluate} to evaluate, {len(self.class_names)} classes"


def read_training_data(settings: DataSettings) -> TrainingData:
    """Reads all sets; ConfigError lists what is wrong with any of them."""
    wrong: list[str] = []
    missing = sorted({s.root for s in (*settings.train, *settings.evaluate) if not Path(s.root).is_dir()})
    wrong += [f"{root}: no such folder (data.train, data.evaluate; --root DIR names another)" for root in missing]
    reader = _read_folders if settings.kind == "imagenet" else _read_annotated
    data = None if missing else reader(settings, wrong)
    if data is None or wrong:
        raise ConfigError(f"data: {len(wrong)} mistakes: " + "; ".join(wrong))
    return data


def _read_annotated(settings: DataSettings, wrong: list[str]) -> TrainingData | None:
    try:
        names = _class_names(settings)
    except DatasetError as error:
        wrong.append(str(error))
        return None
    # Lenient at first, so that everything wrong is found and not the first of it alone.
    problems = Problems(lenient=True)
    sets: list[list[AnnotatedImage]] = []
    for part in (settings.train, settings.evaluate):
        images: list[AnnotatedImage] = []
        for each in part:
            try:
                images += _read_set(settings.kind, each, names, problems)
            except DatasetError as error:
                wrong.append(str(error))
        sets.append(images)
    fatal = set(problems.counts) if not settings.lenient else {"unknown class"}
    lines = dict(zip(sorted(problems.counts), problems.summary()))
    wrong += [line for kind, line in lines.items() if kind in fatal]
    keep = settings.difficult and settings.kind == "voc"
    train = [image if keep else _without_neutral(image) for image in sets[0]]
    if not wrong and not any(len(image.labels) for image in train):
        wrong.append("the training images have no object at all")
    notes = [line for kind, line in lines.items() if kind not in fatal]
    return TrainingData(train, sets[1] or None, names, notes)


def _class_names(settings: DataSettings) -> tuple[str, ...]:
    if not isinstance(settings.classes, str):
        return settings.classes
    if settings.classes != "all":
        return KNOWN_CLASSES[settings.classes]
    first = settings.train[0]
    if settings.kind == "coco":
        return tuple(read_coco(first.root, first.set, problems=Problems(lenient=True)).class_names)
    names = {name for each in settings.train for name in class_names_in(find_voc_folder(each.root, each.year))}
    return tuple(sorted(names))


def _read_set(kind: str, each: ImageSet, names: Sequence[str], problems: Problems) -> list[AnnotatedImage]:
    if kind == "coco":
        return read_coco(each.root, each.set, names, problems).images
    return read_voc(each.root, each.set, names, each.year or None, problems)


def _without_neutral(image: AnnotatedImage) -> AnnotatedImage:
    keep = ~np.asarray(image.neutral)
    return dataclasses.replace(image, boxes=image.boxes[keep], labels=image.labels[keep], neutral=image.neutral[keep])


def _read_folders(settings: DataSettings, wrong: list[str]) -> TrainingData | None:
    index = settings.class_index or None
    try:
        first = _folder(settings.train[0])
        classes = len(settings.classes) if not isinstance(settings.classes, str) else _count(first, index)
        parts = []
        for part in (settings.train, settings.evaluate):
            folders = [read_imagenet(_folder(each), classes, index) for each in part]
            paths, labels = ([x for f in folders for x in getattr(f, key)] for key in ("paths", "labels"))
            parts.append(ClassFolders(paths, labels, folders[0].class_names) if folders else None)
    except DatasetError as error:
        wrong.append(str(error))
        return None
    names = settings.classes if not isinstance(settings.classes, str) else tuple(parts[0].class_names)
    return TrainingData(parts[0], parts[1], names)


def _folder(each: ImageSet) -> Path:
    return Path(each.root, each.set)


def _count(root: Path, index: str | None) -> int:
    return len(read_class_index(index)) if index else sum(path.is_dir() for path in root.iterdir())
