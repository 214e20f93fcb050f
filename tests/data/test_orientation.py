"""Boxes of pictures that are stored lying: the same whether a set annotates them upright or as they are stored."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from jpegdeep_torch.data.annotation_lookup import GroundTruth
from jpegdeep_torch.data.annotations import AnnotatedImage, DatasetIssues
from jpegdeep_torch.data.coco import read_coco
from jpegdeep_torch.data.orientation import turn_boxes
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.data.yolo import read_yolo
from jpegdeep_torch.errors import DatasetArgumentError, DatasetError
from jpegdeep_torch.jpeg.options import ReadOptions
from tests.set_forms import write_coco, write_voc, write_yolo

NAMES = ("cat", "dog")
STORED = ReadOptions(orientation="stored")
READERS = {"voc": (write_voc, read_voc), "coco": (write_coco, read_coco), "yolo": (write_yolo, read_yolo)}
BOX = (7, 3, 22, 11)  # left, top, right, bottom edges in the stored picture of 40x30 px


def lying(path: Path, orientation: int, size: tuple[int, int] = (30, 40), box=BOX) -> Path:
    """A JPEG of that stored (height, width), with a white box on black."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, "JPEG", quality=100, subsampling=0, exif=exif)
    return path


def seen(path: Path, upright: bool = True) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """((height, width), the white box's edges) as Pillow shows it."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        pixels = np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("L"))
    rows, columns = np.flatnonzero((pixels > 128).any(axis=1)), np.flatnonzero((pixels > 128).any(axis=0))
    return pixels.shape, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pillow_turns_pixels(tmp_path, orientation):
    _, edges = seen(lying(tmp_path / "a.jpg", orientation))
    assert turn_boxes(np.array([BOX], float), (30, 40), orientation).tolist() == [list(edges)]
    # The same pixels as VOC counts them: from 1, the last one included.
    counted = np.array([BOX], float) + (1, 1, 0, 0)
    turned = turn_boxes(counted, (30, 40), orientation, first_px=1)
    assert (turned - (1, 1, 0, 0)).tolist() == [list(edges)]


def images(folder: Path, upright: bool, orientations, first_px: float) -> list[AnnotatedImage]:
    """Pictures of several sizes with an EXIF orientation each, annotated upright or as they are stored."""
    found = []
    for number, orientation in enumerate(orientations):
        path = lying(folder / f"image_{number}.jpg", orientation, (30, 40 + number))
        (height, width), box = seen(path, upright)
        boxes = np.array([box], float) + (first_px, first_px, 0, 0)
        found.append(
            AnnotatedImage(path.stem, path, height, width, boxes, np.array([1 + number % 2]), np.zeros(1, bool))
        )
    return found


def same(found: list[AnnotatedImage], expected: list[AnnotatedImage]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.height_px, a.width_px) == (b.height_px, b.width_px), b.name
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-9)
        assert a.labels.tolist() == b.labels.tolist()


def read_set(kind: str, root: Path, **options) -> list[AnnotatedImage]:
    found = READERS[kind][1](root, "test", NAMES, **options)
    return found.images if kind == "coco" else found


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("upright", [True, False])
def test_every_form_gives_boxes_of_the_pictures_as_they_are_read(tmp_path, kind, upright):
    first_px = 1.0 if kind == "voc" else 0.0
    own = images(tmp_path / "own", upright, range(1, 9), first_px)
    root = READERS[kind][0](tmp_path / kind, own, NAMES)
    said = {} if upright or kind != "yolo" else {"orientation": "stored"}  # else the sizes tell
    same(read_set(kind, root, **said), images(tmp_path / "upright", True, range(1, 9), first_px))
    same(read_set(kind, root, options=STORED, **said), images(tmp_path / "stored", False, range(1, 9), first_px))


@pytest.mark.parametrize("kind", READERS)
def test_what_sizes_cannot_tell_is_said(tmp_path, kind):
    """Mirrored and turned by half, a picture keeps its size: taken as upright, unless the set says otherwise."""
    first_px = 1.0 if kind == "voc" else 0.0
    root = READERS[kind][0](tmp_path / kind, images(tmp_path / "own", False, (2, 3, 4), first_px), NAMES)
    expected = images(tmp_path / "upright", True, (2, 3, 4), first_px)
    same(read_set(kind, root, orientation="stored"), expected)
    with pytest.raises(AssertionError):
        same(read_set(kind, root), expected)
    with pytest.raises(DatasetArgumentError, match="'upright', expected one of 'apply', 'stored'"):
        read_set(kind, root, orientation="upright")


def test_evaluators_of_coco_get_the_turned_boxes(tmp_path):
    own = images(tmp_path / "own", False, (1, 6, 8), 0.0)
    found = read_coco(write_coco(tmp_path / "coco", own, NAMES), "test", NAMES)
    upright = images(tmp_path / "upright", True, (1, 6, 8), 0.0)
    assert isinstance(found.annotations, dict)
    for entry, annotation, image in zip(found.annotations["images"], found.annotations["annotations"], upright):
        assert (entry["height"], entry["width"]) == (image.height_px, image.width_px)
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width, y + height] == image.boxes[0].tolist() and annotation["area"] == width * height
    plain = read_coco(write_coco(tmp_path / "plain", upright, NAMES), "test", NAMES)
    assert plain.annotations == tmp_path / "plain" / "annotations" / "instances_test.json"


@pytest.mark.parametrize("kind", ["voc", "coco"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_size_that_fits_neither_way_names_the_file(tmp_path, kind, orientation):
    own = images(tmp_path / "own", True, (1, 1, orientation), 1.0)
    own[2] = dataclasses.replace(own[2], height_px=own[2].width_px + 2, width_px=own[2].height_px)
    root = READERS[kind][0](tmp_path / kind, own, NAMES)
    with pytest.raises(DatasetError, match=rf"image_2\.jpg: .* expected {own[2].width_px}x{own[2].height_px}, which"):
        read_set(kind, root)
    issues = DatasetIssues(lenient=True)
    assert [image.name for image in read_set(kind, root, issues=issues)][:2] == (
        ["image_0", "image_1"] if kind == "voc" else ["image_0.jpg", "image_1.jpg"]
    )
    assert dict(issues.counts) == {"picture of another size": 1}


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_set_that_is_annotated_both_ways_names_a_file_of_the_fewer(tmp_path, kind):
    own = images(tmp_path / "own", False, (6, 8, 5, 6), 1.0)
    upright = images(tmp_path / "upright", True, (6, 8, 5, 6), 1.0)
    root = READERS[kind][0](tmp_path / kind, [*own[:3], upright[3]], NAMES)
    with pytest.raises(DatasetError, match=r"image_3\.jpg: 30x43 px upright and 43x30 px as stored.*are of the stored"):
        read_set(kind, root)


def test_voc_without_a_size_is_of_the_upright_picture_or_as_is_said(tmp_path):
    own = {upright: images(tmp_path / str(upright), upright, (6,), 1.0) for upright in (True, False)}
    for upright, orientation in ((True, None), (False, "stored")):
        root = write_voc(tmp_path / f"voc_{upright}", own[upright], NAMES)
        (path,) = (root / "Annotations").iterdir()
        path.write_text(path.read_text().replace("<size>", "<other>").replace("</size>", "</other>"))
        same(read_set("voc", root, orientation=orientation), own[True])


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("upright", [True, False])
def test_what_is_drawn_beside_detections(tmp_path, kind, upright):
    own = images(tmp_path / "own", upright, (6,), 1.0 if kind == "voc" else 0.0)
    root = READERS[kind][0](tmp_path / kind, own, NAMES)
    (path,) = root.rglob("*.jpg")
    where = root / "annotations" / "instances_test.json" if kind == "coco" else "auto"
    said = "stored" if kind == "yolo" and not upright else None
    for options in (ReadOptions(), STORED):
        boxes, names = GroundTruth(where, said, options).objects(path)
        expected = seen(path, options.orientation == "apply")[1]
        np.testing.assert_allclose(boxes - ((1, 1, 0, 0) if kind == "voc" else 0), [expected], atol=1e-9)
        assert names == ["cat"]
    lying(path, 1, (30, 77))
    found = GroundTruth(where).objects(path)
    assert found is None if kind != "yolo" else found is not None  # of another size than its annotation gives
