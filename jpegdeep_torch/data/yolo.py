"""YOLO folders: a data.yaml that names image folders and classes, and a text file of boxes per image.

The form is that of Ultralytics and Roboflow.  `data.yaml` holds `train`, `val` and `test` (folders of images, or
text files that list images; one or several each), `names` (a list, or a mapping from class number to name) and perhaps
`path`, the folder that the others are relative to.  The labels of .../images/NAME.jpg stand in .../labels/NAME.txt, a
line per object: `class x_centre y_centre width height`, or `class x1 y1 x2 y2 x3 y3 ...` for an outline.  Class numbers
count from 0; lengths are fractions of the image's width and height.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import DatasetError, JpegError
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from .annotations import AnnotatedImage, DatasetIssues, check_box, make_annotated
from .dataset import JPEG_SUFFIXES
from .orientation import check_orientation, read_upright_header, size_in, turn_between, turn_image

CONFIG_NAME = "data.yaml"
IMAGE_SETS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # set -> its keys
_OTHER_IMAGES = {".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".avif"}
_SLACK = 1e-3  # of a side: labels are rounded, and may leave the image by as much

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class YoloConfig:
    """What a data.yaml says.

    file: the data.yaml itself.
    root: the folder that its paths are relative to.
    images: {'train', 'val' or 'test': paths of folders or lists, as they are written}.
    class_names: in the order of the class numbers.
    """

    file: Path
    root: Path
    images: dict[str, tuple[str, ...]]
    class_names: tuple[str, ...]


def is_yolo(root: str | os.PathLike[str]) -> bool:
    """Whether `root` is a data.yaml, or a folder that holds one."""
    return _config_file(Path(root)) is not None


def read_yolo_config(root: str | os.PathLike[str]) -> YoloConfig:
    """The data.yaml `root`, or in the folder `root`.

    Raises:
        DatasetError: there is none, or it cannot be used; the message names what was found and expected.
    """
    file = _config_file(Path(root))
    if file is None:
        raise DatasetError(f"{root}: no {CONFIG_NAME} there, expected a YOLO data set")
    try:
        held = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DatasetError(f"{file}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(held, dict):
        raise DatasetError(f"{file}: holds {type(held).__name__}, expected keys such as names, train and val")
    names = _class_names(held.get("names"), held.get("nc"), file)
    images = {}
    for image_set, keys in IMAGE_SETS.items():
        stated = next((held[key] for key in keys if held.get(key)), None)
        if stated is not None:
            paths = stated if isinstance(stated, list) else [stated]
            if not all(isinstance(path, str) for path in paths):
                raise DatasetError(f"{file}: {image_set} is {stated!r}, expected a path or a list of paths")
            images[image_set] = tuple(paths)
    base = held.get("path")
    if base is not None and not isinstance(base, str):
        raise DatasetError(f"{file}: path is {base!r}, expected a folder")
    root_folder = file.parent / base if base else file.parent
    return YoloConfig(file, root_folder if root_folder.is_dir() else file.parent, images, names)


def read_yolo(
    root: str | os.PathLike[str],
    image_set: str,
    class_names: Sequence[str] | None = None,
    issues: DatasetIssues | None = None,
    *,
    orientation: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[AnnotatedImage]:
    """The images of a set with their boxes, in pixels of the upright image.  One without a label file has no object.

    Args:
        root: a data.yaml, or the folder that holds it.
        image_set: 'train', 'val' (or 'valid') or 'test'.
        class_names: in label order (default: the file's own order); classes are matched by name.
        issues: with `DatasetIssues(lenient=True)`, images, objects and parts of boxes that cannot be used are counted
            and left out.
        orientation: 'stored' where the labels are of the pictures as they are stored (default: 'apply', of the upright
            ones; nothing in the labels tells).
        options: how the pictures will be read; with `orientation='stored'` the boxes are of the stored pictures.

    Raises:
        DatasetError: the set is not there, or, unless `issues` are lenient, an image is no JPEG or missing, a line of
            labels cannot be read, a class is unknown, or a box is degenerate or leaves the image.  It names the file
            and the line.
    """
    check_orientation(orientation)
    issues = issues if issues is not None else DatasetIssues()
    config = read_yolo_config(root)
    wanted = next((name for name, keys in IMAGE_SETS.items() if image_set in keys), image_set)
    if wanted not in config.images:
        known = ", ".join(config.images) or "none"
        raise DatasetError(f"{config.file}: names no set {image_set!r}, expected one of {known}")
    labels = _labels_by_number(config, class_names, issues)
    images = []
    for path in _image_files(config, wanted, issues):
        image = read_yolo_image(path, labels, config, issues, orientation=orientation, options=options)
        if image is not None:
            images.append(image)
    if not images:
        raise DatasetError(f"{config.file}: the set {image_set!r} has no image that can be used")
    return images


def _config_file(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() in (".yaml", ".yml") else None
    for name in (CONFIG_NAME, "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    return None


def _class_names(names: Any, count: Any, file: Path) -> tuple[str, ...]:
    if isinstance(names, dict) and names and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{file}: names is {str(names)[:100]!r}, expected a list, or numbers from 0 and their names")
    if isinstance(count, int) and count != len(names):
        raise DatasetError(f"{file}: nc is {count}, but there are {len(names)} names")
    found = tuple(str(name) for name in names)
    if len(set(found)) != len(found):
        raise DatasetError(f"{file}: names a class twice")
    return found


def _labels_by_number(config: YoloConfig, class_names: Sequence[str] | None, issues: DatasetIssues) -> dict[int, int]:
    """{class number of the files: label, from 1}; of classes that `class_names` leaves out, none."""
    if class_names is None:
        return {number: number + 1 for number in range(len(config.class_names))}
    label_of = {name: label for label, name in enumerate(class_names, start=1)}
    absent = [name for name in class_names if name not in config.class_names]
    if absent and not issues.lenient:
        raise DatasetError(
            f"{config.file}: has no class {', '.join(absent)}, its classes are {', '.join(config.class_names)}"
        )
    return {number: label_of[name] for number, name in enumerate(config.class_names) if name in label_of}


def _image_files(config: YoloConfig, image_set: str, issues: DatasetIssues) -> list[Path]:
    """The images of the set, those of a folder by name.  What is an image but no JPEG is an issue."""
    files: list[Path] = []
    for stated in config.images[image_set]:
        place = _existing(config, stated)
        if place.is_dir():
            found = sorted(path for path in place.rglob("*") if path.is_file())
        else:
            lines = place.read_text(encoding="utf-8").splitlines()
            found = [place.parent / line.strip() for line in lines if line.strip()]
        for path in found:
            if path.suffix.lower() in JPEG_SUFFIXES:
                files.append(path)
            elif path.suffix.lower() in _OTHER_IMAGES or not place.is_dir():
                issues.report("no JPEG", f"{path}: expected a JPEG, a name ending in {', '.join(JPEG_SUFFIXES)}")
    return files


def _existing(config: YoloConfig, stated: str) -> Path:
    """Where a path of the data.yaml leads; Roboflow writes '../train/images' for a folder that lies beside the file."""
    tried = [config.root / stated, config.file.parent / stated]
    if stated.startswith("../"):
        tried.append(config.file.parent / stated[3:])
    for place in tried:
        if place.exists():
            return place
    raise DatasetError(f"{tried[0]}: no such folder or list, but {config.file} names it")


def find_yolo_config(image: Path) -> YoloConfig | None:
    """The data.yaml of the set that `image` is in, up to three folders above the one it lies in."""
    if not label_file(image).is_file():
        return None
    folders = (folder for folder in image.parents[1:4] if is_yolo(folder))
    return next((read_yolo_config(folder) for folder in folders), None)


def label_file(image: Path) -> Path:
    """Where the labels of `image` stand: the last folder called 'images' is 'labels' there, the suffix is .txt."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_yolo_image(
    path: Path,
    labels: dict[int, int],
    config: YoloConfig,
    issues: DatasetIssues,
    *,
    orientation: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> AnnotatedImage | None:
    """One image with the objects of its label file; None where it cannot be read and `issues` are lenient.

    labels: {class number of the file: label, from 1}.  The rest is as for `read_yolo`.
    """
    try:
        header = read_upright_header(path, options)
    except JpegError as error:
        issues.report("unreadable picture" if path.is_file() else "missing picture", str(error))
        return None
    orientation = orientation or "apply"
    height, width = size_in(header, orientation)
    objects = []
    file = label_file(path)
    for number, line in enumerate(_lines(file, issues), start=1):
        if not line.strip():
            continue
        what = f"{file}: line {number}"
        try:
            kind, box = _parse_line(line, what)
        except DatasetError as error:
            issues.report("unreadable object", str(error))
            continue
        if kind not in labels:
            name = config.class_names[kind] if 0 <= kind < len(config.class_names) else str(kind)
            issues.report("unknown class", f"{what}: class {kind} ({name}), which is not among the classes", name)
            continue
        in_pixels = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        checked = check_box(in_pixels, height, width, what, issues, _SLACK * max(width, height))
        if checked is not None:
            objects.append((checked, labels[kind], False))
    image = make_annotated(path.stem, path, height, width, objects)
    return turn_image(image, turn_between(header, orientation, options.orientation))


def _lines(file: Path, issues: DatasetIssues) -> list[str]:
    if not file.is_file():  # an image without objects
        return []
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        issues.report("unreadable annotation", f"{file}: cannot be read ({error})")
        return []


def _parse_line(line: str, what: str) -> tuple[int, Box]:
    """(class number, xmin, ymin, xmax, ymax as fractions)."""
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)) or values[0] != int(values[0]):
        raise DatasetError(f"{what}: {line.strip()[:100]!r}, expected a class number and finite numbers")
    kind, places = int(values[0]), values[1:]
    if len(places) == 4:
        x, y, width, height = places
        return kind, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(places) >= 6 and len(places) % 2 == 0:  # an outline: the box around it
        return kind, (min(places[0::2]), min(places[1::2]), max(places[0::2]), max(places[1::2]))
    raise DatasetError(f"{what}: {len(places)} numbers after the class, expected 4, or an outline's pairs")
