"""The images and annotations of a run, read and checked before any work begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.annotations import AnnotatedImage, DatasetIssues
from ..data.classes import KNOWN_CLASSES
from ..data.coco import CocoSet, read_coco
from ..data.imagenet import ClassFolders
from ..data.voc import class_names_in, find_voc_folder, read_voc
from ..data.yolo import read_yolo, read_yolo_config
from ..errors import DatasetError
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from .class_folders import read_folders
from .config import DataSettings, ImageSet, refuse
from .pictures import PictureCheck, Progress, no_progress


@dataclass
class TrainingData:
    """train, evaluate: AnnotatedImages of a detector, or the ClassFolders of a classifier; `evaluate` may be None.

    class_names: in label order.  notes: what was left out and what is worth knowing, a line each.
    coco: of COCO, the set that `evaluate` is of, for its evaluator.
    """

    train: Any
    evaluate: Any
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    coco: CocoSet | None = None

    def __str__(self) -> str:
        train, evaluate = _count(self.train), _count(self.evaluate)
        return f"{train} images to train on, {evaluate} to evaluate, {len(self.class_names)} classes"


def _count(part: list[AnnotatedImage] | ClassFolders | None) -> int:
    return len(part.paths if isinstance(part, ClassFolders) else part or ())


def read_training_data(settings: DataSettings, options: ReadOptions = DEFAULT_OPTIONS) -> TrainingData:
    """Reads all sets; ConfigError lists what is wrong with any of them.  options: how pictures are read."""
    wrong: list[str] = []
    data = find_training_data(settings, wrong, options)
    refuse("data", wrong)
    assert data is not None  # or something would have been wrong
    return data


def find_training_data(
    settings: DataSettings,
    wrong: list[str],
    options: ReadOptions = DEFAULT_OPTIONS,
    *,
    thorough: bool = False,
    progress: Progress = no_progress,
) -> TrainingData | None:
    """As `read_training_data`, but appends what is wrong to `wrong`, and reads what is there all the same.

    thorough, progress: see `PictureCheck`.  None: there is nothing that could be read.
    """
    sets = (*settings.train, *settings.evaluate)
    missing = sorted({each.root for each in sets if not Path(each.root).is_dir()})
    wrong += [f"{root}: no such folder (data.train, data.evaluate; `root` replaces it)" for root in missing]
    issues = DatasetIssues(lenient=True)  # so that everything wrong is found, and not the first of it alone
    check = PictureCheck(options, settings.coefficients == "native", thorough, progress, issues)
    if settings.kind == "imagenet":
        folders = read_folders(settings, missing, check, wrong)
        data = None if folders is None else TrainingData(*folders)
    else:
        data = _Annotated(settings, missing, check, wrong).read()
    fatal = [kind for kind in sorted(issues.counts) if kind == "unknown class" or not settings.lenient]
    hints = {kind: "" if kind == "unknown class" else " (data.lenient = true leaves such out)" for kind in fatal}
    wrong += [issues.listing(kind) + hint for kind, hint in hints.items()]
    if data is not None:
        lines = dict(zip(sorted(issues.counts), issues.summary()))
        data.notes += [f"left out: {line}" for kind, line in lines.items() if kind not in fatal]
        if check.decoded:
            data.notes.append(
                f"decoded and compressed again: {len(check.decoded)} x picture, such as {check.decoded[0]}"
            )
    if not wrong:
        wrong += _nothing_left(settings, data)
    return data


def _nothing_left(settings: DataSettings, data: TrainingData | None) -> list[str]:
    """What is wrong where nothing else is."""
    if data is None:
        return [f"{settings.class_index or 'data.train'}: no class, expected at least one"]
    parts = ("train", "evaluate")
    empty = [f"data.{part}" for part in parts if getattr(settings, part) and not _count(getattr(data, part))]
    if empty:
        return [f"{' and '.join(empty)}: no image that can be used"]
    if settings.train and settings.kind != "imagenet" and not any(len(image.labels) for image in data.train):
        return ["the training images have no object at all"]
    return []


class _Annotated:
    """Reads the sets of a detector: those whose root is there."""

    def __init__(self, settings: DataSettings, missing: Sequence[str], check: PictureCheck, wrong: list[str]):
        self.settings, self.missing, self.check, self.wrong = settings, missing, check, wrong
        self.coco_sets: dict[ImageSet, CocoSet] = {}
        self.unread = [each for each in settings.train if each.root in missing]
        self.names = self._class_names()

    def read(self) -> TrainingData | None:
        settings = self.settings
        train, evaluate = self._read(settings.train), self._read(settings.evaluate)
        if settings.kind == "coco" and len(settings.evaluate) > 1:
            self.wrong.append(
                f"data.evaluate: {len(settings.evaluate)} sets, expected one: COCO's figures are of one file"
            )
        if self.unread and settings.classes == "all":  # the names are perhaps in what could not be read
            self.check.issues.counts.pop("unknown class", None)
        if not self.names:
            return None
        notes = self._classes_without_objects(train)
        if settings.kind != "voc" or not settings.difficult:
            train = [_without_ignored(image) for image in train]
        coco = self.coco_sets.get(settings.evaluate[0]) if evaluate and settings.kind == "coco" else None
        return TrainingData(train, evaluate or None, self.names, notes, coco)

    def _class_names(self) -> tuple[str, ...]:
        """In label order; of a COCO set without names of its own, () until the first one is read."""
        settings = self.settings
        if not isinstance(settings.classes, str):
            return settings.classes
        if settings.classes in KNOWN_CLASSES:
            return KNOWN_CLASSES[settings.classes]
        if settings.kind == "coco":
            return ()
        # Where no training set is there, the others name the classes, so that these are checked all the same.
        sets = settings.train if len(self.unread) < len(settings.train) else settings.evaluate
        names: dict[str, None] = {}
        for each in sets:
            try:
                if settings.kind == "yolo":
                    names |= dict.fromkeys(read_yolo_config(each.root).class_names)
                else:
                    names |= dict.fromkeys(class_names_in(find_voc_folder(each.root, each.year), lenient=True))
            except DatasetError:  # said when the set is read
                continue
        return tuple(names if settings.kind == "yolo" else sorted(names))  # a data.yaml has an order of its own

    def _read(self, sets: Sequence[ImageSet]) -> list[AnnotatedImage]:
        images: list[AnnotatedImage] = []
        for each in sets:
            if each.root in self.missing:
                continue
            try:
                found = self._read_set(each)
                usable = self.check.usable([image.path for image in found])
                images += [image for image, is_usable in zip(found, usable) if is_usable]
            except DatasetError as error:
                self.wrong.append(str(error))
                self.unread += [each] if each in self.settings.train else []
        return images

    def _read_set(self, each: ImageSet) -> list[AnnotatedImage]:
        issues, options = self.check.issues, self.check.options
        orientation = self.settings.orientation or None
        if self.settings.kind == "yolo":
            return read_yolo(each.root, each.set, self.names, issues, orientation=orientation, options=options)
        if self.settings.kind == "voc":
            year = each.year or None
            return read_voc(each.root, each.set, self.names, year, issues, orientation=orientation, options=options)
        found = read_coco(each.root, each.set, self.names, issues, orientation=orientation, options=options)
        self.names = self.names or tuple(found.class_names)
        self.coco_sets[each] = found
        return found.images

    def _classes_without_objects(self, train: Sequence[AnnotatedImage]) -> list[str]:
        """Names that were asked for and no training image has: wrong if they were listed, otherwise worth a note."""
        used = {int(label) for image in train for label in image.labels}
        absent = [name for label, name in enumerate(self.names, start=1) if label not in used]
        if not absent or self.unread or not self.settings.train:
            return []
        line = f"data.classes: no object in the training sets is a {' or a '.join(absent)}"
        # COCO's names are those of the file's categories, all of them: nobody could leave one out.
        if isinstance(self.settings.classes, str) or self.settings.kind == "coco":
            return [line]
        self.wrong.append(line)
        return []


def _without_ignored(image: AnnotatedImage) -> AnnotatedImage:
    keep = ~np.asarray(image.ignore)
    return dataclasses.replace(image, boxes=image.boxes[keep], labels=image.labels[keep], ignore=image.ignore[keep])
