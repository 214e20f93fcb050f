"""Readers of VOC, COCO and ImageNet folders: what they give, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jpegdeep_torch.data.annotations import DatasetIssues
from jpegdeep_torch.data.coco import read_coco
from jpegdeep_torch.data.imagenet import read_imagenet
from jpegdeep_torch.data.voc import class_names_in, find_voc_folder, read_voc
from jpegdeep_torch.errors import DatasetError
from tests.coco_export import export_coco

NAMES = ("cat", "dog")


def jpeg(path: Path, width: int = 64, height: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 60)).save(path, "JPEG")
    return path


def xml(objects: str, size: str = "<size><width>64</width><height>48</height></size>") -> str:
    return f"<annotation>{size}{objects}</annotation>"


def item(name="cat", box=("5", "6", "30", "40"), extra="<difficult>0</difficult>") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


@pytest.fixture
def voc(tmp_path: Path):
    """voc({name: xml or None}) -> a VOC-style folder."""

    def make(annotations: dict[str, str | None]) -> Path:
        (tmp_path / "Annotations").mkdir()
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
        for name, text in annotations.items():
            jpeg(tmp_path / "JPEGImages" / f"{name}.jpg")
            if text is not None:
                (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("\n".join(annotations) + "\n")
        return tmp_path

    return make


def test_voc_reads_objects_in_order(voc):
    parts = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    root = voc({"a": xml(item() + item("dog", ("1.5", "2", "64", "48"), f"<difficult>1</difficult>{parts}"))})
    (image,) = read_voc(root, "test", NAMES)
    assert (image.name, image.height_px, image.width_px) == ("a", 48, 64)
    assert image.boxes.tolist() == [[5, 6, 30, 40], [1.5, 2, 64, 48]]
    assert image.labels.tolist() == [1, 2] and image.ignore.tolist() == [False, True]
    assert class_names_in(root) == ["cat", "dog"]


def test_voc_takes_the_size_from_the_picture_where_the_annotation_has_none(voc):
    (image,) = read_voc(voc({"a": xml(item(extra=""), size="")}), "test", NAMES)
    assert (image.height_px, image.width_px) == (48, 64) and not image.ignore.any()


def test_voc_finds_the_year_in_a_devkit(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    (folder / "Annotations").mkdir(parents=True)
    assert find_voc_folder(tmp_path, 2007) == folder == find_voc_folder(folder, "2007")
    with pytest.raises(DatasetError, match="VOC2012"):
        find_voc_folder(tmp_path, 2012)
    with pytest.raises(DatasetError, match="no such folder"):
        find_voc_folder(tmp_path / "absent")


WRONG = {  # what is wrong -> (annotation, words of the message, objects left when lenient; None: no image)
    "unknown class": (xml(item() + item("cow")), ("object 2 (cow)", "cat, dog"), 1),
    "degenerate box": (xml(item(box=("9", "6", "9", "40")) + item()), ("object 1 (cat)", "(9, 6, 9, 40)"), 1),
    "box outside the image": (xml(item(box=("5", "6", "70", "40"))), ("object 1 (cat)", "64x48"), 1),
    "unreadable object": (xml(item() + item(box=("5", "x", "30", "40"))), ("object 2 (cat)", "ymin", "'x'"), 1),
    "missing annotation": (None, ("a.xml", "no such file"), None),
    "unreadable annotation": ("<annotation><object>", ("a.xml", "XML"), None),
}


@pytest.mark.parametrize("kind", WRONG)
def test_voc_strict_names_file_and_object_lenient_counts(voc, kind):
    annotation, words, left = WRONG[kind]
    root = voc({"a": annotation, "b": xml(item())})
    with pytest.raises(DatasetError) as caught:
        read_voc(root, "test", NAMES)
    assert all(word in str(caught.value) for word in ("a.xml", *words)), str(caught.value)
    issues = DatasetIssues(lenient=True)
    images = {image.name: image for image in read_voc(root, "test", NAMES, issues=issues)}
    assert dict(issues.counts) == {kind: 1} and "b" in images and kind in issues.summary()[0]
    assert ("a" not in images) if left is None else len(images["a"].labels) == left


def test_voc_keeps_the_inside_of_a_box_when_lenient(voc):
    root = voc({"a": xml(item(box=("-5", "6", "70", "40")) + item(box=("100", "6", "120", "40")))})
    (image,) = read_voc(root, "test", NAMES, issues=DatasetIssues(lenient=True))
    assert image.boxes.tolist() == [[0, 6, 64, 40]]


def test_voc_expands_no_entity_and_fetches_nothing(voc, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("cat")
    evil = f'<!DOCTYPE annotation [<!ENTITY x SYSTEM "file://{secret}">]>' + xml(item("&x;"))
    with pytest.raises(DatasetError, match="document type"):
        read_voc(voc({"a": evil}), "test", NAMES)


def test_voc_names_missing_picture_and_set(voc):
    root = voc({"a": xml(item())})
    with pytest.raises(DatasetError, match="expected one of test, all"):
        read_voc(root, "val", NAMES)
    assert len(read_voc(root, "all", NAMES)) == 1
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"a\.jpg: no such file"):
        read_voc(root, "test", NAMES)


def test_bccd_is_read_whole(shared):
    root = shared / "data" / "bccd"
    assert class_names_in(root) == ["Platelets", "RBC", "WBC"]
    images = read_voc(root, "test", ("RBC", "WBC", "Platelets"))
    assert len(images) == 72 and sum(len(image.labels) for image in images) == 945
    with pytest.raises(DatasetError, match=r"BloodImage_00338\.xml: object 13 \(RBC\)"):
        read_voc(root, "trainval", ("RBC", "WBC", "Platelets"))
    issues = DatasetIssues(lenient=True)
    assert len(read_voc(root, "trainval", ("RBC", "WBC", "Platelets"), issues=issues)) == 292
    assert issues.counts == {"degenerate box": 2}


@pytest.fixture
def coco(tmp_path: Path):
    """A COCO folder of one image; coco(change) writes its JSON after `change(data)`."""

    def make(change=lambda data: None) -> Path:
        jpeg(tmp_path / "val2017" / "7.jpg")
        data = {
            "images": [{"id": 7, "file_name": "7.jpg", "width": 64, "height": 48}],
            "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0},
                {"id": 2, "image_id": 7, "category_id": 17, "bbox": [4, 4, 10.5, 10], "area": 105, "iscrowd": 1},
            ],
        }
        change(data)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
        return tmp_path

    return make


def test_coco_maps_categories_by_name(coco):
    data = read_coco(coco(), "val2017")
    assert data.class_names == ["cat", "dog"] and data.category_ids == [17, 18] and data.image_ids == [7]
    swapped = read_coco(coco(), "val2017", ("dog", "cat"))
    assert swapped.category_ids == [18, 17] and swapped.images[0].labels.tolist() == [1, 2]
    assert swapped.images[0].boxes.tolist() == [[1, 2, 31, 22], [4, 4, 14.5, 14]]
    assert swapped.images[0].ignore.tolist() == [False, True]
    with pytest.raises(DatasetError, match="only in the file: dog; only in the network: cow"):
        read_coco(coco(), "val2017", ("cat", "cow"))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"bbox": [1, 2, 0, 5]}, "degenerate box", "annotation 1"),
        ({"bbox": [50, 2, 20, 5]}, "box outside the image", "64x48"),
        ({"bbox": None}, "unreadable object", "None"),
        ({"image_id": 9}, "unknown image", "image_id is 9"),
        ({"category_id": 1}, "unknown class", "category_id is 1"),
    ],
)
def test_coco_strict_names_the_annotation_lenient_counts(coco, change, kind, words):
    root = coco(lambda data: data["annotations"][0].update(change))
    with pytest.raises(DatasetError, match=words):
        read_coco(root, "val2017")
    issues = DatasetIssues(lenient=True)
    read_coco(root, "val2017", issues=issues)
    assert dict(issues.counts) == {kind: 1}


def test_coco_says_what_is_missing(coco):
    with pytest.raises(DatasetError, match="instances_test2017"):
        read_coco(coco(), "test2017")
    with pytest.raises(DatasetError, match="no list 'categories'"):
        read_coco(coco(lambda data: data.pop("categories")), "val2017")
    with pytest.raises(DatasetError, match=r"8\.jpg: no such file"):
        read_coco(coco(lambda data: data["images"][0].update(file_name="8.jpg")), "val2017")


def test_coco_export_is_read_back(voc, tmp_path):
    images = read_voc(voc({"a": xml(item() + item("dog", extra="<difficult>1</difficult>"))}), "test", NAMES)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(export_coco(images, NAMES)))
    jpeg(tmp_path / "test" / "a.jpg")
    back = read_coco(tmp_path, "test", NAMES, annotation_file=path).images[0]
    assert np.array_equal(back.boxes, images[0].boxes) and back.ignore.tolist() == [False, True]


def test_imagenet_folders_are_classes(tmp_path):
    for folder, count in (("n02", 2), ("n01", 1)):
        for k in range(count):
            jpeg(tmp_path / "set" / folder / f"{k}.JPEG")
    data = read_imagenet(tmp_path / "set", 2)
    assert data.labels == [0, 1, 1] and data.class_names == ["n01", "n02"]
    with pytest.raises(DatasetError, match="2 folders, expected 3"):
        read_imagenet(tmp_path / "set", 3)
    forms = {
        "i.json": json.dumps({"0": ["n02", "tench"], "1": ["n05", "shark"], "2": ["n01", "hen"]}),
        "l.json": json.dumps(["n02", "n05", "n01"]),
        "i.txt": "n02 tench\nn05 great white shark\nn01\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_imagenet(tmp_path / "set", 3, tmp_path / name).labels == [2, 0, 0], name
    (tmp_path / "bad.json").write_text('{"1": ["n02", "tench"]}')
    with pytest.raises(DatasetError, match="not a class index"):
        read_imagenet(tmp_path / "set", 1, tmp_path / "bad.json")
    (tmp_path / "few.txt").write_text("n02\n")
    with pytest.raises(DatasetError, match="not in"):
        read_imagenet(tmp_path / "set", 1, tmp_path / "few.txt")
