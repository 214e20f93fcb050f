"""Two evaluations side by side: the differences, and whether the interval means what it says."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from jpegdeep_torch.data.annotations import make_annotated
from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.evaluation.comparison import compare_records
from jpegdeep_torch.evaluation.imagenet import evaluate_imagenet
from jpegdeep_torch.evaluation.records import imagenet_record, make_record, read_record, voc_record
from jpegdeep_torch.evaluation.voc import evaluate_voc
from jpegdeep_torch.utils.files import write_json

NAMES = ["cat", "dog", "cow"]


def images_of(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    images = []
    for k in range(count):
        objects = []
        for n in range(rng.integers(0, 4)):
            x, y = rng.integers(0, 60, 2).tolist()
            objects.append(((x, y, x + 30, y + 30), int(rng.integers(1, 3)), n == 3))
        images.append(make_annotated(f"image {k}", None, 100, 100, objects))
    return images


def detector_of(images, skill: float, seed: int):
    """Finds each object with probability `skill`, and invents as many."""
    rng = np.random.default_rng(seed)
    found = []
    for image in images:
        boxes, scores, labels = [], [], []
        for box, label in zip(image.boxes, image.labels):
            hit = rng.random() < skill
            boxes.append(box + rng.normal(0, 1, 4) + (0 if hit else 45))
            scores.append(rng.random() * (1 if hit else 0.8))
            labels.append(label)
        found.append({"boxes": np.array(boxes).reshape(-1, 4), "scores": scores, "labels": labels})
    return found


def record_of(images, found):
    result = evaluate_voc(images, found, NAMES)
    return make_record("eval.voc", {}, *voc_record(result, [image.name for image in images])), result


def test_the_figures_are_those_of_the_evaluations(tmp_path):
    images = images_of(80)
    (a, result_a), (b, result_b) = (record_of(images, detector_of(images, skill, 1)) for skill in (0.5, 0.9))
    for name, record in (("a", a), ("b", b)):
        write_json(tmp_path / f"{name}.json", record)
    result = compare_records(*(read_record(tmp_path / f"{name}.json") for name in "ab"), resamples=300)
    (total,) = result.total
    assert (total.a, total.b) == pytest.approx((result_a.mean["area"], result_b.mean["area"]), abs=1e-12)
    assert total.low < total.difference < total.high and total.is_sure and total.low > 0
    rows = {item.name: item for item in result.classes}
    assert rows["cat"].a == pytest.approx(result_a.ap["area"][0], abs=1e-12)
    assert rows["cow"].a is None and rows["cow"].difference is None and not rows["cow"].is_sure


def test_an_evaluation_does_not_differ_from_itself_and_order_is_of_no_account():
    images = images_of(40)
    found = detector_of(images, 0.7, 2)
    a, _ = record_of(images, found)
    b, _ = record_of(images[::-1], found[::-1])
    (total,) = compare_records(a, b, resamples=50).total
    assert total.difference == pytest.approx(0, abs=1e-12)
    assert total.low == pytest.approx(0, abs=1e-12) and total.high == pytest.approx(0, abs=1e-12)


def test_a_draw_is_what_evaluating_the_drawn_images_gives():
    images = images_of(30)
    found = detector_of(images, 0.6, 3)
    a, _ = record_of(images, found)
    b, _ = record_of(images, detector_of(images, 0.8, 4))
    (total,) = compare_records(a, b, resamples=1, level=0.5, seed=9).total
    drawn = np.random.default_rng(9).integers(len(images), size=len(images))
    means = []
    for detections in (found, detector_of(images, 0.8, 4)):
        result = evaluate_voc([images[k] for k in drawn], [detections[k] for k in drawn], NAMES)
        means.append(result.mean["area"])
    assert total.low == pytest.approx(means[1] - means[0], abs=1e-9) == total.high


def test_the_interval_covers_the_true_difference():
    """Two detectors of equal skill, paired: the 80% interval holds 0 in about 80% of the cases."""
    holds = 0
    for seed in range(40):
        images = images_of(40, seed)
        a, b = (record_of(images, detector_of(images, 0.6, 100 + 2 * seed + k))[0] for k in range(2))
        (total,) = compare_records(a, b, resamples=60, level=0.8, seed=seed).total
        holds += total.low <= 0 <= total.high
    assert 24 <= holds <= 39  # binomial(40, 0.8): outside with probability below 0.1%


def test_classifiers_are_compared_by_top_1_and_top_5():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    names, records = [f"{k}.jpg" for k in range(200)], []
    for skill in (0.4, 0.8):
        guesses = np.stack([rng.permutation(10)[:5] for _ in labels])
        sure = rng.random(200) < skill
        guesses[sure, 0] = labels[sure]
        result = evaluate_imagenet(guesses, np.full((200, 5), 0.2), labels)
        classes = [f"class {k}" for k in range(10)]
        records.append(make_record("eval.imagenet", {}, *imagenet_record(result, names, classes)))
    result = compare_records(*records, resamples=200)
    assert [item.name for item in result.total] == ["top-1", "top-5"] and result.total[0].is_sure
    assert result.total[0].a == pytest.approx(records[0]["results"][0]["top1"])
    assert len(result.classes) == 10 and result.classes[3].name == "class 3"


def test_what_cannot_be_compared_is_refused(tmp_path):
    images = images_of(10)
    a, _ = record_of(images, detector_of(images, 0.6, 1))
    other, _ = record_of(images[:9], detector_of(images[:9], 0.6, 1))
    with pytest.raises(DatasetError, match="different images"):
        compare_records(a, other)
    changed = copy.deepcopy(a)
    changed["samples"]["classes"][0]["positives"][0][1] += 1
    with pytest.raises(DatasetError, match="different objects"):
        compare_records(a, changed)
    changed["results"][0]["task"] = "coco"
    with pytest.raises(DatasetError, match="one evaluation is of voc, the other of coco"):
        compare_records(a, changed)
    with pytest.raises(DatasetError, match="resamples is 0"):
        compare_records(a, a, resamples=0)
    for name, text in (("list.json", "[]"), ("torn.json", '{"results": ['), ("other.json", '{"results": [{}]}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(DatasetError, match=name):
            read_record(tmp_path / name)
    with pytest.raises(DatasetError, match=r"absent\.json"):
        read_record(tmp_path / "absent.json")
