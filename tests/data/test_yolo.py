"""YOLO folders: what is read, by numbers worked out by hand, and what is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jpegdeep_torch.data.annotations import DatasetIssues
from jpegdeep_torch.data.yolo import is_yolo, label_file, read_yolo, read_yolo_config
from jpegdeep_torch.errors import DatasetError


def make(root: Path, labels: dict[str, str | None], config: str | None = None, folder: str = "train/images") -> Path:
    """A data set of images of 80x60 px with these label files (None: no file)."""
    for name, text in labels.items():
        image = root / folder / f"{name}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (90, 120, 60)).save(image, "JPEG")
        if text is not None:
            label_file(image).parent.mkdir(parents=True, exist_ok=True)
            label_file(image).write_text(text)
    (root / "data.yaml").write_text(config or "train: train/images\nnames: [cat, dog]\nnc: 2\n")
    return root


def test_boxes_are_in_pixels_and_labels_count_from_one(tmp_path):
    root = make(tmp_path, {"b": "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.1 0.2\n", "a": None, "c": ""})
    images = read_yolo(root, "train")
    assert [image.name for image in images] == ["a", "b", "c"]
    assert [len(image.labels) for image in images] == [0, 2, 0]
    found = images[1]
    assert (found.height_px, found.width_px) == (60, 80) and found.labels.tolist() == [2, 1]
    np.testing.assert_allclose(found.boxes, [[30, 15, 50, 45], [4, 6, 12, 18]], atol=1e-9)
    assert not found.ignore.any() and found.boxes.dtype == np.float64


def test_an_outline_becomes_the_box_around_it(tmp_path):
    root = make(tmp_path, {"a": "0 0.25 0.5 0.75 0.25 0.5 0.75\n"})
    (image,) = read_yolo(root, "train")
    np.testing.assert_allclose(image.boxes, [[20, 15, 60, 45]])


def test_classes_are_matched_by_name(tmp_path):
    root = make(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n"})
    (image,) = read_yolo(root, "train", ["dog", "cat"])
    assert image.labels.tolist() == [2, 1]
    with pytest.raises(DatasetError, match="class 1 \\(dog\\)"):
        read_yolo(root, "train", ["cat"])
    with pytest.raises(DatasetError, match="has no class bird"):
        read_yolo(root, "train", ["cat", "bird"])


FORMS = {
    "a mapping of names": ("train: train/images\nnames:\n  0: cat\n  1: dog\n", "train"),
    "a path": ("path: ../{name}\ntrain: train/images\nnames: [cat, dog]\n", "train"),
    "Roboflow's paths": ("train: ../train/images\nnames: [cat, dog]\n", "train"),
    "a list of folders": ("train: [train/images]\nnames: [cat, dog]\n", "train"),
    "a file that lists images": ("train: list.txt\nnames: [cat, dog]\n", "train"),
    "another word for val": ("valid: train/images\nnames: [cat, dog]\n", "val"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_config(tmp_path, form):
    text, image_set = FORMS[form]
    root = make(tmp_path / "set", {"a": "0 0.5 0.5 0.5 0.5\n"}, text.format(name="set"))
    (root / "list.txt").write_text("./train/images/a.jpg\n")
    (image,) = read_yolo(root, image_set)
    assert image.labels.tolist() == [1] and is_yolo(root) and is_yolo(root / "data.yaml")
    assert read_yolo_config(root).class_names == ("cat", "dog")


MISTAKES = {
    "no config": (None, {}, "no data.yaml there"),
    "no set": ("names: [cat]\nval: x\n", {"a": None}, "names no set 'train', expected one of val"),
    "no folder": ("names: [cat]\ntrain: nowhere\n", {"a": None}, "nowhere: no such folder or list"),
    "no names": ("train: train/images\n", {"a": None}, "names is 'None'"),
    "another count": ("train: train/images\nnames: [cat]\nnc: 3\n", {"a": None}, "nc is 3, but there are 1 names"),
    "no YAML": ("train: [", {"a": None}, "not readable as YAML"),
    "a list": ("- a\n", {"a": None}, "holds list"),
    "words": (None, {"a": "0 0.5 0.5 0.5 0.5\nrubbish\n"}, "a.txt: line 2: 'rubbish'"),
    "five numbers": (None, {"a": "0 0.5 0.5 0.5 0.5 0.9\n"}, "line 1: 5 numbers after the class"),
    "not a number": (None, {"a": "0 nan 0.5 0.5 0.5\n"}, "finite numbers"),
    "half a class": (None, {"a": "0.5 0.5 0.5 0.5 0.5\n"}, "expected a class number"),
    "an unknown class": (None, {"a": "7 0.5 0.5 0.5 0.5\n"}, "line 1: class 7 (7), which is not among the classes"),
    "no area": (None, {"a": "0 0.5 0.5 0 0.5\n"}, "line 1: box (40, 15, 40, 45) has no area"),
    "outside": (None, {"a": "0 0.9 0.5 0.5 0.5\n"}, "leaves the image of 80x60 px"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(tmp_path, mistake):
    config, labels, expected = MISTAKES[mistake]
    root = make(tmp_path, labels, config)
    if mistake == "no config":
        (root / "data.yaml").unlink()
    with pytest.raises(DatasetError) as error:
        read_yolo(root, "train")
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_lenient_leaves_out_what_cannot_be_used(tmp_path):
    root = make(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\nrubbish\n9 0.5 0.5 0.5 0.5\n1 0.9 0.5 0.5 0.5\n", "b": None})
    (root / "train/images/b.jpg").write_bytes(b"no JPEG")
    Image.new("RGB", (8, 8)).save(root / "train/images/c.png")
    issues = DatasetIssues(lenient=True)
    (image,) = read_yolo(root, "train", issues=issues)
    assert image.labels.tolist() == [1, 2]
    np.testing.assert_allclose(image.boxes[1], [52, 15, 80, 45])  # cut to the image
    assert dict(issues.counts) == {
        "unreadable picture": 1, "no JPEG": 1, "unreadable object": 1, "unknown class": 1, "box outside the image": 1,
    }  # fmt: skip
    with pytest.raises(DatasetError, match="expected a JPEG"):
        read_yolo(root, "train")


def test_labels_stand_beside_the_last_folder_of_images():
    assert label_file(Path("images/x/images/a.b.jpg")) == Path("images/x/labels/a.b.txt")
    assert label_file(Path("/d/train/images/sub/a.jpeg")) == Path("/d/train/labels/sub/a.txt")
    assert label_file(Path("/d/a.jpg")) == Path("/d/a.txt")


def test_aquarium(shared):
    issues = DatasetIssues(lenient=True)
    sets = {name: read_yolo(shared / "data/aquarium", name, issues=issues) for name in ("train", "valid", "test")}
    assert {name: len(images) for name, images in sets.items()} == {"train": 448, "valid": 127, "test": 63}
    # SOURCE.md counts 4,817 boxes; two of them have no area.
    assert sum(len(image.labels) for images in sets.values() for image in images) == 4815
    assert dict(issues.counts) == {"degenerate box": 2}
