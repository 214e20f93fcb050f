"""The annotation of single images, looked up by the image's file name, to be drawn beside detections."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from .annotations import AnnotatedImage, DatasetIssues, make_annotated
from .coco import load_coco, objects_by_image
from .orientation import check_orientation, find_turns, turn_image
from .voc import FIRST_PX, object_names, read_voc_annotation
from .yolo import find_yolo_config, read_yolo_image

AUTO = "auto"
Objects = tuple[np.ndarray, list[str]]


class GroundTruth:
    """Finds the annotated objects of an image.

    Objects that cannot be drawn, such as boxes without area, are left out.

    Args:
        where: a folder of VOC XML, a COCO JSON, or 'auto': NAME.xml beside the image or in ../Annotations, or the
            label file of a YOLO set.
        orientation: whether annotations are of the upright pictures ('apply') or of the stored ones ('stored');
            default: what the size in an image's annotation fits.
        options: how the pictures are read that the boxes are for.

    Raises:
        DatasetError: there is neither, or the JSON is not COCO's.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] = AUTO,
        orientation: str | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ):
        check_orientation(orientation)
        self.orientation, self.options = orientation, options
        self.folder = Path(where) if str(where) != AUTO else None
        self._coco: dict[str, tuple[AnnotatedImage, list[str]]] | None = None
        if self.folder is not None and self.folder.is_file():
            self._coco = _read_coco(self.folder)
        elif self.folder is not None and not self.folder.is_dir():
            raise DatasetError(f"{where}: no such file or folder, expected VOC annotations or a COCO JSON")

    def objects(self, image: str | os.PathLike[str]) -> Objects | None:
        """(boxes (K, 4) float64 in pixels, their class names); None without an annotation of the image's size."""
        path = Path(image)
        if self._coco is not None:
            found = self._coco.get(path.name)
            return None if found is None else self._upright(dataclasses.replace(found[0], path=path), found[1])
        folders = [self.folder] if self.folder else [path.parent, path.parent.parent / "Annotations"]
        files = (folder / f"{path.stem}.xml" for folder in folders)
        objects = next((self._read_voc(file, path) for file in files if file.is_file()), None)
        return objects or (None if self.folder else self._read_yolo(path))

    def _upright(self, found: AnnotatedImage | None, names: Sequence[str], first_px: float = 0.0) -> Objects | None:
        """The objects of an image, as `options` have it; names: of labels 1, 2, ..."""
        if found is None:
            return None
        (turn,) = find_turns([found], DatasetIssues(lenient=True), self.orientation, self.options)
        if turn is None:
            return None
        return turn_image(found, turn, first_px).boxes, [names[label - 1] for label in found.labels]

    def _read_voc(self, annotation: Path, image: Path) -> Objects | None:
        try:
            names = sorted(set(object_names(annotation)))
        except DatasetError:
            return None
        found = read_voc_annotation(annotation, image, names, DatasetIssues(lenient=True), self.orientation)
        return self._upright(found, names, FIRST_PX)

    def _read_yolo(self, image: Path) -> Objects | None:
        try:
            config = find_yolo_config(image)
        except DatasetError:
            return None
        if config is None:
            return None
        labels = {number: number + 1 for number in range(len(config.class_names))}
        found = read_yolo_image(
            image, labels, config, DatasetIssues(lenient=True), orientation=self.orientation, options=self.options
        )
        return None if found is None else (found.boxes, [config.class_names[label - 1] for label in found.labels])


def _read_coco(path: Path) -> dict[str, tuple[AnnotatedImage, list[str]]]:
    """{file name: (the image, the class names)}."""
    data = load_coco(path)
    names = [category["name"] for category in data["categories"]]
    label_of_id = {category["id"]: label for label, category in enumerate(data["categories"], start=1)}
    objects = objects_by_image(data, label_of_id, path, DatasetIssues(lenient=True))
    found = {}
    for entry in data["images"]:
        name, size = Path(entry["file_name"]), (entry["height"], entry["width"])
        found[name.name] = make_annotated(name.stem, name, *size, objects.get(entry["id"], [])), names
    return found
