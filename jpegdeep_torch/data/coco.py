"""COCO folders: annotations/instances_SET.json and the pictures in SET/ or images/SET/."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .annotations import AnnotatedImage, DatasetIssues, check_box, make_annotated

_SLACK_PX = 1.0  # COCO's boxes come from polygons, and leave the image by parts of a pixel


@dataclass(frozen=True)
class CocoSet:
    """One set: its images in the file's order, and how labels become category ids.

    `image_ids[i]` belongs to `images[i]`; `category_ids[k - 1]` to label k; `annotation_file` is for the evaluator.
    """

    annotation_file: Path
    images: list[AnnotatedImage]
    image_ids: list[int]
    category_ids: list[int]
    class_names: list[str]


def read_coco(
    root: str | os.PathLike[str],
    image_set: str,
    class_names: Sequence[str] | None = None,
    problems: DatasetIssues | None = None,
    annotation_file: str | os.PathLike[str] | None = None,
) -> CocoSet:
    """Reads a set; categories are matched by name to `class_names` (default: all of the file's, by rising id).

    Raises DatasetError for a missing file or picture, categories and class names that differ, annotations of unknown
    images or categories, degenerate boxes and boxes outside the image; with
    `DatasetIssues(lenient=True)` problems of single pictures and objects are counted, and these left out, also where an
    error follows that is the whole set's.
    """
    problems = problems if problems is not None else DatasetIssues()
    root = Path(root)
    path = Path(annotation_file) if annotation_file else root / "annotations" / f"instances_{image_set}.json"
    data = _load(path)
    names = {category["id"]: category["name"] for category in sorted(data["categories"], key=lambda c: c["id"])}
    class_names = list(class_names) if class_names else list(names.values())
    label_of_id, wrong = _map_categories(names, class_names, path)
    pictures = next((folder for folder in (root / image_set, root / "images" / image_set) if folder.is_dir()), None)
    if pictures is None:
        wrong.append(f"{root / image_set}: no such folder, expected the pictures of {path.name}")
    if wrong and not problems.lenient:
        raise DatasetError("; ".join(wrong))
    objects = _objects_by_image(data, label_of_id, path, problems)
    images, image_ids = [], []
    for entry in data["images"] if pictures else ():
        picture = pictures / entry["file_name"]
        if not picture.is_file():
            problems.report("missing picture", f"{picture}: no such file, but {path.name} lists it")
            continue
        images.append(
            make_annotated(entry["file_name"], picture, entry["height"], entry["width"], objects.get(entry["id"], []))
        )
        image_ids.append(entry["id"])
    if not images and pictures:
        wrong.append(f"{path}: has no image that can be used")
    if wrong:
        raise DatasetError("; ".join(wrong))
    id_of_label = {label: category for category, label in label_of_id.items()}
    return CocoSet(path, images, image_ids, [id_of_label[k + 1] for k in range(len(class_names))], class_names)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, expected COCO's object annotations")
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DatasetError(f"{path}: has no list {key!r}, expected COCO's object annotations")
    for key, needed in (("images", ("id", "file_name", "height", "width")), ("categories", ("id", "name"))):
        for entry in data[key]:
            if absent := [name for name in needed if name not in entry]:
                raise DatasetError(f"{path}: an entry of {key!r} has no {', '.join(absent)}: {str(entry)[:100]}")
    return data


def _map_categories(names: dict[int, str], class_names: list[str], path: Path) -> tuple[dict[int, int], list[str]]:
    """({category id: label}, what is wrong): by name, since ids have gaps and the classes an order of their own."""
    absent = sorted(set(class_names) - set(names.values()))
    unknown = sorted(set(names.values()) - set(class_names))
    label_of = {name: label for label, name in enumerate(class_names, start=1)}
    wrong = []
    if absent or unknown or len(label_of) != len(class_names):
        wrong.append(
            f"{path}: its {len(names)} categories are not the network's {len(class_names)} classes "
            f"(only in the file: {', '.join(unknown) or 'none'}; only in the network: {', '.join(absent) or 'none'})"
        )
    return {category: label_of.get(name, 0) for category, name in names.items()}, wrong


def _objects_by_image(
    data: dict[str, Any], label_of_id: dict[int, int], path: Path, problems: DatasetIssues
) -> dict[int, list[tuple[tuple[float, float, float, float], int, bool]]]:
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in data["images"]}
    objects: dict[int, list[tuple[tuple[float, float, float, float], int, bool]]] = {}
    for entry in data["annotations"]:
        what = f"{path}: annotation {entry.get('id')}"
        if entry.get("image_id") not in sizes:
            problems.report("unknown image", f"{what}: image_id is {entry.get('image_id')!r}, which no image has")
            continue
        if entry.get("category_id") not in label_of_id:
            problems.report(
                "unknown class", f"{what}: category_id is {entry.get('category_id')!r}, which is no category's"
            )
            continue
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
        except (KeyError, TypeError, ValueError):
            problems.report("unreadable object", f"{what}: bbox is {entry.get('bbox')!r}, expected four numbers")
            continue
        box = check_box((x, y, x + width, y + height), *sizes[entry["image_id"]], what, problems, _SLACK_PX)
        if box is not None:
            crowd = bool(entry.get("iscrowd", 0))
            objects.setdefault(entry["image_id"], []).append((box, label_of_id[entry["category_id"]], crowd))
    return objects


def export_coco(images: Sequence[AnnotatedImage], class_names: Sequence[str]) -> dict[str, Any]:
    """Annotated images as COCO's object annotations; image ids count from 1, category id = label.

    COCO has no 'difficult': ignored objects become crowds, which count neither way either.
    """
    entries, annotations = [], []
    for image_id, image in enumerate(images, start=1):
        entries.append(
            {"id": image_id, "file_name": image.path.name, "height": image.height_px, "width": image.width_px}
        )
        for box, label, ignore in zip(image.boxes.tolist(), image.labels.tolist(), image.ignore.tolist()):
            width, height = box[2] - box[0], box[3] - box[1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": [box[0], box[1], width, height],
                    "area": width * height,
                    "iscrowd": int(ignore),
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)]
    return {"info": {}, "images": entries, "annotations": annotations, "categories": categories}
