"""What is drawn beside detections: the annotation of an image, from VOC's XML or COCO's JSON."""

from __future__ import annotations

import json

import pytest

from jpegdeep_torch.data.annotation_lookup import GroundTruth
from jpegdeep_torch.errors import DatasetError
from tests.data.test_annotations import item, jpeg, xml


def drawn(ground_truth: GroundTruth, image) -> list | None:
    """[[box, class name], ...]"""
    found = ground_truth.objects(image)
    return None if found is None else [[box.tolist(), name] for box, name in zip(*found, strict=True)]


@pytest.mark.parametrize("where", ["Annotations", "JPEGImages", "elsewhere"])
def test_voc_annotations_are_found_beside_in_annotations_or_where_it_is_said(tmp_path, where):
    image = jpeg(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / "a.xml").write_text(xml(item("dog") + item("cat", ("1", "2", "3", "4"))))
    expected = [[[5, 6, 30, 40], "dog"], [[1, 2, 3, 4], "cat"]]
    assert drawn(GroundTruth(tmp_path / where), image) == expected
    assert drawn(GroundTruth(), image) == (None if where == "elsewhere" else expected)


def test_objects_that_cannot_be_drawn_are_left_out(tmp_path):
    image = jpeg(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(xml(item(box=("9", "6", "9", "40")) + item("dog")))
    assert drawn(GroundTruth(), image) == [[[5, 6, 30, 40], "dog"]]
    (tmp_path / "a.xml").write_text("<annotation>")
    assert drawn(GroundTruth(), image) is None


def test_a_coco_file_is_looked_up_by_file_name_and_checked(tmp_path):
    data = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 64, "height": 48},
                   {"id": 8, "file_name": "val/8.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 17, "bbox": [1, 2, 30, 20]},
                        {"id": 2, "image_id": 7, "category_id": 18, "bbox": [4, 4, 10.5, 10], "iscrowd": 1},
                        {"id": 3, "image_id": 7, "category_id": 17, "bbox": [4, 4, 0, 10]},
                        {"id": 4, "image_id": 9, "category_id": 17, "bbox": [4, 4, 5, 10]}],
    }  # fmt: skip
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    ground_truth = GroundTruth(path)
    assert drawn(ground_truth, "elsewhere/7.jpg") == [[[1, 2, 31, 22], "cat"], [[4, 4, 14.5, 14], "dog"]]
    assert drawn(ground_truth, "8.jpg") == [] and drawn(ground_truth, "9.jpg") is None
    for broken, words in (
        ("[1, 2", "not readable as JSON"),
        ("[]", "no list 'images'"),
        (json.dumps({**data, "categories": [{"id": 18}]}), "an entry of 'categories' has no name"),
        (json.dumps({**data, "annotations": [3]}), "an entry of 'annotations' has no keys"),
    ):
        path.write_text(broken)
        with pytest.raises(DatasetError, match=words):
            GroundTruth(path)
    with pytest.raises(DatasetError, match="no such file or folder"):
        GroundTruth(tmp_path / "absent.json")
