"""COCO's files: annotations/instances_SET.json beside the images in SET/ or images/SET/, and results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from ..jpeg.orientation import upright_size
from .annotations import AnnotatedImage, DatasetIssues, Object, check_box, make_annotated
from .classes import is_unused
from .orientation import find_turns, turn_boxes

_SLACK_PX = 1.0  # COCO's boxes come from polygons, and leave the image by parts of a pixel
_NEEDED = {"images": ("id", "file_name", "height", "width"), "annotations": (), "categories": ("id", "name")}


@dataclass(frozen=True)
class CocoSet:
    """One image set, in the order of its JSON.

    annotations: what COCO's evaluators are given: the JSON's path, or its contents where boxes were turned.
    `image_ids[i]` is the id of `images[i]`; label k is the category `category_ids[k - 1]`, called `class_names[k - 1]`.
    A label that no class has (`classes.is_unused`) has the category None.
    """

    annotations: Path | dict[str, Any]
    images: list[AnnotatedImage]
    image_ids: list[int]
    category_ids: Sequence[int | None]
    class_names: list[str]


def read_coco(
    root: str | os.PathLike[str],
    image_set: str,
    class_names: Sequence[str] | None = None,
    issues: DatasetIssues | None = None,
    annotation_file: str | os.PathLike[str] | None = None,
    *,
    orientation: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> CocoSet:
    """Reads one image set of a COCO folder, whose boxes are of the upright pictures.

    Args:
        root: the folder with annotations/ in it.
        image_set: such as 'val2017'.
        class_names: the names of labels 1, 2, ...; the file's categories are matched to them by name (default: the
            file's own, by rising id).
        issues: collects what is wrong.  If lenient, images and objects that cannot be used are left out.
        annotation_file: the JSON, where it is not annotations/instances_SET.json.
        orientation: whether the annotations are of the upright pictures ('apply') or of the stored ones ('stored');
            default: what the sizes in them fit (see `orientation.find_turns`).
        options: how the pictures will be read; with `orientation='stored'` the boxes are of the stored pictures.

    Raises:
        DatasetError: the file, the folder of images or all images are missing, or its categories are not the classes.
            With strict `issues` also for the first image that is missing or of another size, and the first object that
            cannot be used.
    """
    issues = issues if issues is not None else DatasetIssues()
    root = Path(root)
    path = Path(annotation_file) if annotation_file else root / "annotations" / f"instances_{image_set}.json"
    data = load_coco(path)
    names = {category["id"]: category["name"] for category in sorted(data["categories"], key=lambda c: c["id"])}
    class_names = list(class_names) if class_names else list(names.values())
    label_of_id, wrong = _map_categories(names, class_names, path)
    folder = next((folder for folder in (root / image_set, root / "images" / image_set) if folder.is_dir()), None)
    if folder is None:
        wrong.append(f"{root / image_set}: no such folder, expected the pictures of {path.name}")
    if wrong and not issues.lenient:
        raise DatasetError("; ".join(wrong))
    listed = []
    for entry in data["images"] if folder else ():
        file = folder / entry["file_name"]
        if file.is_file():
            listed.append((entry["id"], make_annotated(entry["file_name"], file, entry["height"], entry["width"], [])))
        else:
            issues.report("missing picture", f"{file}: no such file, but {path.name} lists it")
    turns = dict(zip((i for i, _ in listed), find_turns([image for _, image in listed], issues, orientation, options)))
    turned = turn_coco(data, {i: turn for i, turn in turns.items() if turn not in (None, 1)})
    objects = objects_by_image(turned, label_of_id, path, issues)
    images, image_ids = [], []
    for image_id, image in listed:
        if (turn := turns[image_id]) is not None:
            height, width = upright_size((image.height_px, image.width_px), turn)
            images.append(make_annotated(image.name, image.path, height, width, objects.get(image_id, [])))
            image_ids.append(image_id)
    if not images and folder:
        wrong.append(f"{path}: has no image that can be used")
    if wrong:
        raise DatasetError("; ".join(wrong))
    id_of_label = {label: category for category, label in label_of_id.items()}
    return CocoSet(
        path if turned is data else turned,
        images,
        image_ids,
        [id_of_label.get(k + 1) for k in range(len(class_names))],
        class_names,
    )


def load_coco(path: Path) -> dict[str, Any]:
    """COCO's object annotations as JSON has them; DatasetError where the file, a list or a key is missing."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, expected COCO's object annotations")
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from None
    for key, needed in _NEEDED.items():
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DatasetError(f"{path}: has no list {key!r}, expected COCO's object annotations")
        for entry in data[key]:
            absent = [name for name in needed if name not in entry] if isinstance(entry, dict) else ["keys"]
            if absent:
                raise DatasetError(f"{path}: an entry of {key!r} has no {', '.join(absent)}: {str(entry)[:100]}")
    return data


def _map_categories(names: dict[int, str], class_names: list[str], path: Path) -> tuple[dict[int, int], list[str]]:
    """({category id: label}, what is wrong): by name, since ids have gaps and the classes an order of their own."""
    absent = sorted(name for name in set(class_names) - set(names.values()) if not is_unused(name))
    unknown = sorted(set(names.values()) - set(class_names))
    label_of = {name: label for label, name in enumerate(class_names, start=1)}
    wrong = []
    if absent or unknown or len(label_of) != len(class_names):
        wrong.append(
            f"{path}: its {len(names)} categories are not the network's {len(class_names)} classes "
            f"(only in the file: {', '.join(unknown) or 'none'}; only in the network: {', '.join(absent) or 'none'})"
        )
    return {category: label_of.get(name, 0) for category, name in names.items()}, wrong


def objects_by_image(
    data: dict[str, Any], label_of_id: dict[int, int], path: Path, issues: DatasetIssues
) -> dict[int, list[Object]]:
    """{image id: its objects} of what `load_coco` read; what cannot be used goes to `issues`."""
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in data["images"]}
    objects: dict[int, list[Object]] = {}
    for entry in data["annotations"]:
        what = f"{path}: annotation {entry.get('id')}"
        image_id, category = entry.get("image_id"), entry.get("category_id")
        if image_id not in sizes:
            issues.report("unknown image", f"{what}: image_id is {image_id!r}, which no image has")
            continue
        if category not in label_of_id:
            issues.report("unknown class", f"{what}: category_id is {category!r}, which is no category's")
            continue
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
        except (KeyError, TypeError, ValueError):
            issues.report("unreadable object", f"{what}: bbox is {entry.get('bbox')!r}, expected four numbers")
            continue
        box = check_box((x, y, x + width, y + height), *sizes[image_id], what, issues, _SLACK_PX)
        if box is not None:
            objects.setdefault(image_id, []).append((box, label_of_id[category], bool(entry.get("iscrowd", 0))))
    return objects


def turn_coco(data: dict[str, Any], turns: Mapping[int, int]) -> dict[str, Any]:
    """`data`, of `load_coco`, with images turned; itself where there are none.  A box that is none stays as it is.

    turns: {image id: EXIF's orientation}.
    """
    if not turns:
        return data
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in data["images"]}
    images, annotations = [], []
    for entry in data["images"]:
        size = upright_size(sizes[entry["id"]], turns.get(entry["id"], 1))
        images.append(entry | dict(zip(("height", "width"), size)))
    for entry in data["annotations"]:
        turn = turns.get(entry.get("image_id"), 1)
        with suppress(KeyError, TypeError, ValueError):
            if turn != 1:
                x, y, width, height = (float(value) for value in entry["bbox"])
                box = np.array([(x, y, x + width, y + height)])
                x, y, right, bottom = turn_boxes(box, sizes[entry["image_id"]], turn)[0].tolist()
                entry = entry | {"bbox": [x, y, right - x, bottom - y]}
        annotations.append(entry)
    return data | {"images": images, "annotations": annotations}


def rounded_detections(found: Mapping[str, Any]) -> Iterator[tuple[list[float], float, int]]:
    """(box, score, label) of each detection of an image, as files have them: boxes to 0.001 px, scores to 6 decimals.

    Args:
        found: `{"boxes": (K, 4), "scores": (K,), "labels": (K,)}`, tensors, arrays or lists.
    """
    boxes = np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4).round(3).tolist()
    scores = np.asarray(found["scores"], dtype=np.float64).round(6).tolist()
    return zip(boxes, scores, np.asarray(found["labels"], dtype=np.int64).tolist(), strict=True)


def coco_results(
    detections: Iterable[Mapping[str, Any]], image_ids: Sequence[int | str], category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Detections in COCO's results format, which has boxes as x, y, width, height.

    Args:
        detections: of each image, as for `rounded_detections`.
        image_ids: of the images, in the same order.
        category_ids: `category_ids[k - 1]` belongs to label k; detections of None are left out.
    """
    results = []
    for image_id, found in zip(image_ids, detections, strict=True):
        for (left, top, right, bottom), score, label in rounded_detections(found):
            category = category_ids[label - 1]
            if category is None:
                continue
            box = [left, top, round(right - left, 3), round(bottom - top, 3)]
            results.append({"image_id": image_id, "category_id": category, "bbox": box, "score": score})
    return results


def as_coco_set(images: Sequence[AnnotatedImage], class_names: Sequence[str]) -> CocoSet:
    """Images of another form as a CocoSet, for COCO's evaluators."""
    annotations, ids = coco_annotations(images, class_names), list(range(1, len(class_names) + 1))
    return CocoSet(annotations, list(images), list(range(1, len(images) + 1)), ids, list(class_names))


def coco_annotations(images: Sequence[AnnotatedImage], class_names: Sequence[str]) -> dict[str, Any]:
    """Annotated images in the form of COCO's annotation file; image ids count from 1, category id = label.

    COCO has no 'difficult': ignored objects become crowds, which count neither way either.  An object's area is that of
    its box.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
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
