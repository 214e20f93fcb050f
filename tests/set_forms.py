"""Annotated images written as data sets: in VOC's, COCO's and YOLO's form, all objects alike."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from jpegdeep_torch.data.annotations import AnnotatedImage
from tests.coco_export import export_coco


def write_voc(root: Path, images: Sequence[AnnotatedImage], names: Sequence[str], image_set: str = "test") -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main" / f"{image_set}.txt").write_text("\n".join(image.name for image in images))
    for image in images:
        objects = "".join(
            f"<object><name>{names[label - 1]}</name><difficult>0</difficult><bndbox>"
            + "".join(f"<{corner}>{value!r}</{corner}>" for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
            + "</bndbox></object>"
            for box, label in zip(image.boxes.tolist(), image.labels.tolist())
        )
        size = f"<size><width>{image.width_px}</width><height>{image.height_px}</height></size>"
        (root / "Annotations" / f"{image.name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        (root / "JPEGImages" / f"{image.name}.jpg").write_bytes(image.path.read_bytes())
    return root


def write_coco(root: Path, images: Sequence[AnnotatedImage], names: Sequence[str], image_set: str = "test") -> Path:
    for folder in ("annotations", image_set):
        (root / folder).mkdir(parents=True)
    alike = [dataclasses.replace(image, ignore=image.ignore & False) for image in images]
    (root / "annotations" / f"instances_{image_set}.json").write_text(json.dumps(export_coco(alike, names)))
    for image in images:
        (root / image_set / image.path.name).write_bytes(image.path.read_bytes())
    return root


def write_yolo(root: Path, images: Sequence[AnnotatedImage], names: Sequence[str], image_set: str = "test") -> Path:
    for folder in ("images", "labels"):
        (root / image_set / folder).mkdir(parents=True)
    (root / "data.yaml").write_text(
        f"train: {image_set}/images\n{image_set}: {image_set}/images\nnames: {list(names)}\n"
    )
    for image in images:
        width, height, lines = image.width_px, image.height_px, []
        for (x0, y0, x1, y1), label in zip(image.boxes.tolist(), image.labels.tolist()):
            centre = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
            lines.append(f"{label - 1} " + " ".join(repr(value) for value in centre))
        (root / image_set / "labels" / f"{image.path.stem}.txt").write_text("\n".join(lines))
        (root / image_set / "images" / image.path.name).write_bytes(image.path.read_bytes())
    return root
