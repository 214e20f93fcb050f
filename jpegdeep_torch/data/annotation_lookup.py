"""Annotations to be drawn beside detections, looked up by picture."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from .annotations import DatasetIssues
from .voc import object_names, read_voc_annotation

AUTO = "auto"


class GroundTruth:
    """Finds a picture's objects: in a folder of VOC XML, in a COCO JSON, or ('auto') where VOC keeps its XML.

    'auto' looks for NAME.xml beside the picture and in ../Annotations.
    """

    def __init__(self, where: str | os.PathLike[str] = AUTO):
        self.folder: Path | None = None
        self._coco: dict[str, tuple[np.ndarray, list[str]]] | None = None
        if str(where) == AUTO:
            return
        if Path(where).is_dir():
            self.folder = Path(where)
        elif Path(where).is_file():
            self._coco = _read_coco(Path(where))
        else:
            raise DatasetError(f"{where}: no such file or folder, expected VOC annotations or a COCO JSON")

    def objects(self, picture: str | os.PathLike[str]) -> tuple[np.ndarray, list[str]] | None:
        """(boxes (K, 4) float64 in pixels, class names), or None where no annotation of the picture is known."""
        path = Path(picture)
        if self._coco is not None:
            return self._coco.get(path.name)
        if self.folder is not None:
            folders = [self.folder]
        else:
            folders = [path.parent, path.parent.parent / "Annotations"]
        for folder in folders:
            annotation = folder / f"{path.stem}.xml"
            if annotation.is_file():
                return _read_voc(annotation, path)
        return None


def _read_voc(annotation: Path, picture: Path) -> tuple[np.ndarray, list[str]] | None:
    lenient = DatasetIssues(lenient=True)  # a picture is there to be looked at: what can be drawn is
    try:
        names = sorted(set(object_names(annotation)))
    except DatasetError:
        return None
    image = read_voc_annotation(annotation, picture, names, lenient)
    return None if image is None else (image.boxes, [names[label - 1] for label in image.labels])


def _read_coco(path: Path) -> dict[str, tuple[np.ndarray, list[str]]]:
    try:
        data = json.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in data["categories"]}
        files = {image["id"]: Path(image["file_name"]).name for image in data["images"]}
        boxes: dict[str, list[list[float]]] = {file: [] for file in files.values()}
        words: dict[str, list[str]] = {file: [] for file in files.values()}
        for item in data["annotations"]:
            x, y, width, height = item["bbox"]
            boxes[files[item["image_id"]]].append([x, y, x + width, y + height])
            words[files[item["image_id"]]].append(names[item["category_id"]])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not COCO's object annotations ({type(error).__name__}: {error})") from None
    return {file: (np.array(boxes[file], np.float64).reshape(-1, 4), words[file]) for file in boxes}
