"""Pascal VOC folders, and any folder laid out like one: Annotations, JPEGImages, ImageSets/Main."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from ..errors import DatasetError, JpegError
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from .annotations import AnnotatedImage, DatasetIssues, check_box, make_annotated
from .dataset import JPEG_SUFFIXES
from .orientation import find_turns, read_upright_header, size_in, turn_image

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
FIRST_PX = 1.0  # VOC counts pixels from 1


def find_voc_folder(root: str | os.PathLike[str], year: str | int | None = None) -> Path:
    """The folder with Annotations: of that year in a VOCdevkit, or `root` itself; DatasetError where there is none."""
    root = Path(root)
    inner = [f"VOC{year}", f"VOCdevkit/VOC{year}"] if year else []
    tried = [root / name for name in inner] + ([root] if not year or root.name == f"VOC{year}" else [])
    for folder in tried:
        if (folder / "Annotations").is_dir():
            return folder
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder, expected the root of a VOC-style data set")
    raise DatasetError(f"{root}: no folder Annotations in {' or '.join(map(str, tried))}")


def read_image_set(folder: Path, image_set: str) -> list[str]:
    """The image names of ImageSets/Main/`image_set`.txt, or, for 'all', of every annotation, in order."""
    sets = folder / "ImageSets" / "Main"
    path = sets / f"{image_set}.txt"
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        names = [line.split()[0] for line in lines if line.strip()]  # a second column, if any, is a class's flag
    elif image_set == "all":
        names = sorted(file.stem for file in (folder / "Annotations").glob("*.xml"))
    else:
        known = sorted(file.stem for file in sets.glob("*.txt"))
        raise DatasetError(f"{path}: no such image set, expected one of {', '.join([*known, 'all'])}")
    if not names:
        raise DatasetError(f"{path}: names no image, expected one per line")
    return names


def class_names_in(folder: Path, *, lenient: bool = False) -> list[str]:
    """All class names in the annotations, sorted; DatasetError where one cannot be read, unless `lenient`."""
    found = set()
    for path in sorted((folder / "Annotations").glob("*.xml")):
        try:
            found.update(object_names(path))
        except DatasetError:
            if not lenient:
                raise
    return sorted(found)


def object_names(path: Path) -> list[str]:
    """The class names of one annotation's objects, in its order."""
    return [_text(item, "name", str(path)) for item in _parse(path).findall("object")]


def read_voc(
    root: str | os.PathLike[str],
    image_set: str,
    class_names: Sequence[str],
    year: str | int | None = None,
    issues: DatasetIssues | None = None,
    *,
    orientation: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[AnnotatedImage]:
    """Reads the images of one image set, with their annotations, whose boxes are of the upright pictures.

    Args:
        root: the data set's folder, or a VOCdevkit with several.
        image_set: such as 'test', or 'all' for every annotation.
        class_names: the names of labels 1, 2, ...
        year: which data set of a VOCdevkit.
        issues: collects what is wrong.  If lenient, images and objects that cannot be used are left out, and of a box
            the part inside the image is kept.
        orientation: whether the annotations are of the upright pictures ('apply') or of the stored ones ('stored');
            default: what the sizes in them fit (see `orientation.find_turns`).
        options: how the pictures will be read; with `orientation='stored'` the boxes are of the stored pictures.

    Raises:
        DatasetError: there is no such folder or image set, or no image that can be used.  With strict `issues` also, by
            file and object: an image or annotation is missing or unreadable, a class is unknown, a box has no area or
            leaves the image, a picture is of another size than its annotation gives.
    """
    issues = issues if issues is not None else DatasetIssues()
    folder = find_voc_folder(root, year)
    images = []
    for name in read_image_set(folder, image_set):
        file = find_image(folder / "JPEGImages", name)
        annotation = folder / "Annotations" / f"{name}.xml"
        if file is None:
            issues.report("missing picture", f"{folder / 'JPEGImages' / name}.jpg: no such file")
        elif not annotation.is_file():
            issues.report("missing annotation", f"{annotation}: no such file, expected the annotation of {file.name}")
        elif (image := read_voc_annotation(annotation, file, class_names, issues, orientation)) is not None:
            images.append(image)
    turns = find_turns(images, issues, orientation, options)
    images = [turn_image(image, turn, FIRST_PX) for image, turn in zip(images, turns) if turn is not None]
    if not images:
        raise DatasetError(f"{folder}: the image set {image_set!r} has no image that can be used")
    return images


def find_image(folder: Path, name: str) -> Path | None:
    """The JPEG called `name` in `folder`, whatever the case of its suffix."""
    suffixes = (*JPEG_SUFFIXES, *map(str.upper, JPEG_SUFFIXES))
    return next((path for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()), None)


def read_voc_annotation(
    path: Path,
    image: Path,
    class_names: Sequence[str],
    issues: DatasetIssues | None = None,
    orientation: str | None = None,
) -> AnnotatedImage | None:
    """The annotation `path` of `image` as it is; None where it cannot be read and `issues` is lenient."""
    issues = issues if issues is not None else DatasetIssues()
    try:
        root = _parse(path)
        height, width = _image_size(root, image, orientation)
    except DatasetError as error:
        issues.report("unreadable annotation", str(error))
        return None
    label_of = {name: label for label, name in enumerate(class_names, start=1)}
    objects = []
    for number, item in enumerate(root.findall("object"), start=1):
        try:
            name = _text(item, "name", f"{path}: object {number}")
            what = f"{path}: object {number} ({name})"
            xmin, ymin, xmax, ymax = (_number(item, f"bndbox/{corner}", what) for corner in _CORNERS)
            difficult = item.find("difficult") is not None and _number(item, "difficult", what) != 0
        except DatasetError as error:
            issues.report("unreadable object", str(error))
            continue
        if name not in label_of:
            issues.report("unknown class", f"{what}: unknown class, expected one of {', '.join(class_names)}", name)
            continue
        checked = check_box((xmin, ymin, xmax, ymax), height, width, what, issues)
        if checked is not None:
            objects.append((checked, label_of[name], difficult))
    return make_annotated(path.stem, image, height, width, objects)


def _parse(path: Path) -> etree._Element:
    # No entity is expanded and nothing is fetched; a file that brings a document type of its own is refused outright.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        tree = etree.parse(os.fspath(path), parser)
    except (etree.XMLSyntaxError, OSError) as error:
        raise DatasetError(f"{path}: not readable as XML ({error})") from None
    if tree.docinfo.doctype:
        raise DatasetError(f"{path}: declares a document type ({tree.docinfo.doctype}), expected plain VOC XML")
    root = tree.getroot()
    if root.tag != "annotation":
        raise DatasetError(f"{path}: its root element is <{root.tag}>, expected <annotation>")
    return root


def _text(item: etree._Element, tag: str, what: str) -> str:
    text = item.findtext(tag)
    if text is None or not text.strip():
        raise DatasetError(f"{what}: has no <{tag}>")
    return text.strip()


def _number(item: etree._Element, tag: str, what: str) -> float:
    text = _text(item, tag, what)
    try:
        value = float(text)  # VOC2012 has a few coordinates with decimals
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(f"{what}: <{tag}> is {text!r}, expected a number")
    return value


def _image_size(root: etree._Element, image: Path, orientation: str | None) -> tuple[int, int]:
    """(height, width) in pixels as the annotation says, or, where it says nothing or 0, as the JPEG does."""
    size = root.find("size")
    if size is not None and size.find("height") is not None and size.find("width") is not None:
        height, width = int(_number(size, "height", str(image))), int(_number(size, "width", str(image)))
        if height > 0 and width > 0:
            return height, width
    try:
        header = read_upright_header(image)
    except JpegError as error:
        raise DatasetError(f"{error}; and the annotation gives no size") from None
    return size_in(header, orientation or "apply")
