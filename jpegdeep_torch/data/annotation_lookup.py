"""The annotation of single images, looked up by the image's file name, to be drawn beside detections."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from .annotations import DatasetIssues
from .coco import load_coco, objects_by_image
from .voc import object_names, read_voc_annotation
from .yolo import find_yolo_config, read_yolo_image

AUTO = "auto"
Objects = tuple[np.ndarray, list[str]]


class GroundTruth:
    """Finds the annotated objects of an image.

    Objects that cannot be drawn, such as boxes without area, are left out.

    Args:
        where: a folder of VOC XML, a COCO JSON, or 'auto': NAME.xml beside the image or in ../Annotations, or the
            label file of a YOLO set.

    Raises:
        DatasetError: there is neither, or the JSON is not COCO's.
    """

    def __init__(self, where: str | os.PathLike[str] = AUTO):
        self.folder = Path(where) if str(where) != AUTO else None
        self._coco: dict[str, Objects] | None = None
        if self.folder is not None and self.folder.is_file():
            self._coco = _read_coco(self.folder)
        elif self.folder is not None and not self.folder.is_dir():
            raise DatasetError(f"{where}: no such file or folder, expected VOC annotations or a COCO JSON")

    def objects(self, image: str | os.PathLike[str]) -> Objects | None:
        """(boxes (K, 4) float64 in pixels, their class names), or None where the image has no annotation."""
        path = Path(image)
        if self._coco is not None:
            return self._coco.get(path.name)
        folders = [self.folder] if self.folder else [path.parent, path.parent.parent / "Annotations"]
        files = (folder / f"{path.stem}.xml" for folder in folders)
        found = next((_read_voc(file, path) for file in files if file.is_file()), None)
        return found or (None if self.folder else _read_yolo(path))


def _read_voc(annotation: Path, image: Path) -> Objects | None:
    try:
        names = sorted(set(object_names(annotation)))
    except DatasetError:
        return None
    found = read_voc_annotation(annotation, image, names, DatasetIssues(lenient=True))
    return None if found is None else (found.boxes, [names[label - 1] for label in found.labels])


def _read_yolo(image: Path) -> Objects | None:
    try:
        config = find_yolo_config(image)
    except DatasetError:
        return None
    if config is None:
        return None
    labels = {number: number + 1 for number in range(len(config.class_names))}
    found = read_yolo_image(image, labels, config, DatasetIssues(lenient=True))
    return None if found is None else (found.boxes, [config.class_names[label - 1] for label in found.labels])


def _read_coco(path: Path) -> dict[str, Objects]:
    data = load_coco(path)
    names = [category["name"] for category in data["categories"]]
    label_of_id = {category["id"]: label for label, category in enumerate(data["categories"], start=1)}
    objects = objects_by_image(data, label_of_id, path, DatasetIssues(lenient=True))
    found = {}
    for entry in data["images"]:
        own = objects.get(entry["id"], [])
        boxes = np.array([box for box, _, _ in own], dtype=np.float64).reshape(-1, 4)
        found[Path(entry["file_name"]).name] = boxes, [names[label - 1] for _, label, _ in own]
    return found
