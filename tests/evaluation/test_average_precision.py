"""Average precision against stored figures of the reference, hand-made cases, and its own meaning."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jpegdeep_torch.data.annotations import make_annotated
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.evaluation.average_precision import average_precision, precision_recall
from jpegdeep_torch.evaluation.matching import FALSE, HIT, IGNORED, match_all, match_image, pairwise_iou
from jpegdeep_torch.evaluation.voc import evaluate_voc, write_submission


def annotated(*objects, name="a"):
    """objects: (box, label[, difficult])"""
    rows = [(tuple(o[0]), o[1], len(o) > 2 and o[2]) for o in objects]
    return make_annotated(name, None, 100, 100, rows)


def detections(*rows):
    """rows: (score, label, box)"""
    return {"scores": [r[0] for r in rows], "labels": [r[1] for r in rows], "boxes": [r[2] for r in rows]}


def test_the_golden_average_precision(shared):
    golden = json.loads((shared / "reference" / "golden" / "voc_average_precision.json").read_text())
    names = golden["classes"]
    images = [
        dataclasses.replace(image, ignore=np.array(golden["difficult"].get(image.name, image.ignore)))
        for image in read_voc(shared / "data" / "bccd", "test", names)
    ]
    assert sum(image.ignore.sum() for image in images) == 66
    found = {image.name: [] for image in images}
    for name, label, score, *box in golden["detections"]:
        found[name].append((score, label, box))
    result = evaluate_voc(images, [detections(*found[image.name]) for image in images], names)
    for kind, stored in (("reference", "integrate"), ("11_points", "sample")):
        expected = golden["expected"][stored]
        assert result.ap[kind] == pytest.approx([expected["ap"][name] for name in names], abs=1e-6)
        assert result.mean[kind] == pytest.approx(expected["map"], abs=1e-6)


def test_the_border_pixel_is_part_of_a_box():
    a, b = np.array([[0.0, 0, 9, 9]]), np.array([[5.0, 0, 14, 9]])
    assert pairwise_iou(a, b)[0, 0] == pytest.approx(50 / 150)  # 10x10 pixels each, 5x10 shared
    assert pairwise_iou(a, b, border_px=0)[0, 0] == pytest.approx(36 / 126)
    assert pairwise_iou(a, np.array([[10.0, 0, 12, 9]]))[0, 0] == 0  # neighbours share no pixel


def test_the_rules_of_the_kit():
    image = annotated(((10, 10, 30, 30), 1), ((50, 50, 70, 70), 1, True), ((10, 10, 30, 30), 2))
    outcomes, overlaps, objects = match_image(
        detections(
            (0.3, 1, [10, 10, 30, 30]),  # the object again, by a lower score than the next
            (0.9, 1, [11, 10, 31, 30]),
            (0.8, 1, [50, 50, 70, 70]),  # difficult
            (0.7, 1, [50, 50, 70, 71]),  # ... twice is still ignored
            (0.6, 2, [11, 11, 30, 30]),
            (0.5, 2, [80, 80, 90, 90]),
            (0.4, 3, [10, 10, 30, 30]),  # no object of its class
        ),
        image, 0.5, 1.0,
    )  # fmt: skip
    assert outcomes.tolist() == [FALSE, HIT, IGNORED, IGNORED, HIT, FALSE, FALSE]
    assert objects.tolist() == [0, 0, 1, 1, 2, -1, -1] and overlaps[0] == 1 and overlaps[6] == 0


def test_a_detection_belongs_to_the_object_it_overlaps_most_even_where_that_is_taken():
    image = annotated(((0, 0, 20, 20), 1), ((0, 4, 20, 24), 1))
    found = detections((0.9, 1, [0, 0, 20, 20]), (0.8, 1, [0, 1, 20, 21]))
    assert match_image(found, image, 0.5, 1.0)[0].tolist() == [HIT, FALSE]


def test_precision_and_recall_by_hand():
    outcomes = np.array([HIT, FALSE, IGNORED, HIT, FALSE])
    precision, recall = precision_recall(outcomes, 4)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 1 / 2, 2 / 3, 1 / 2])
    assert recall.tolist() == [0.25, 0.25, 0.25, 0.5, 0.5]
    assert average_precision(outcomes, 4, "area") == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert average_precision(outcomes, 4, "11_points") == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert average_precision(outcomes, 4, "reference") == pytest.approx(0.25 * 1)
    assert average_precision(outcomes, 4, "coco") == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)


def test_nothing_found_nothing_to_find_and_all_found():
    image = annotated(((0, 0, 20, 20), 1), name="a")
    perfect = evaluate_voc([image], [detections((0.9, 1, [0, 0, 20, 20]))], ["cat", "dog"])
    assert perfect.ap["area"][0] == 1 and np.isnan(perfect.ap["area"][1]) and perfect.mean["area"] == 1
    assert perfect.mean["11_points"] == pytest.approx(1)
    nothing = evaluate_voc([image], [detections()], ["cat"])
    assert nothing.mean == {"area": 0, "11_points": 0, "reference": 0}
    with pytest.raises(ValueError, match="unknown kind"):
        average_precision(np.array([1]), 1, "median")


@given(st.data())
def test_a_weight_is_a_repetition(data):
    count = data.draw(st.integers(1, 30))
    outcomes = np.array(data.draw(st.lists(st.sampled_from([1, 0, -1]), min_size=count, max_size=count)))
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    objects = int(((outcomes == 1) * weights).sum()) + 2
    for kind in ("area", "11_points", "coco"):
        repeated = average_precision(np.repeat(outcomes, weights), objects, kind)
        assert average_precision(outcomes, objects, kind, weights) == pytest.approx(repeated, abs=1e-12)


def test_matching_counts_what_is_to_be_found_per_image():
    images = [annotated(((0, 0, 9, 9), 2), ((0, 0, 9, 9), 2, True)), annotated(((0, 0, 9, 9), 2), ((5, 5, 9, 9), 2))]
    matches = match_all(images, [detections(), detections((0.1, 2, [0, 0, 9, 9]))], 2)
    assert matches[0].positives.tolist() == [0, 0] and matches[1].positives.tolist() == [1, 2]
    assert matches[1].images.tolist() == [1] and matches[1].outcomes.tolist() == [HIT]


def test_the_files_of_a_submission(tmp_path):
    found = [detections((0.9, 1, [1, 2, 3.456, 4]), (0.5, 2, [0, 0, 5, 5])), detections((0.25, 1, [7, 7, 8, 8]))]
    paths = write_submission(tmp_path / "sub", "test", ["000001", "000002"], found, ["cat", "dog", "cow"])
    assert [path.name for path in paths] == [f"comp3_det_test_{name}.txt" for name in ("cat", "dog", "cow")]
    assert paths[0].read_text() == "000001 0.900000 1.00 2.00 3.46 4.00\n000002 0.250000 7.00 7.00 8.00 8.00\n"
    assert paths[2].read_text() == ""
