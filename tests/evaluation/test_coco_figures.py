"""COCO's figures by the evaluator that is used, against pycocotools."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

from jpegdeep_torch.data.coco import coco_results
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import BackendUnavailable, DatasetError
from jpegdeep_torch.evaluation import coco
from jpegdeep_torch.evaluation.average_precision import average_precision
from tests.coco_export import export_coco

NAMES = ("RBC", "WBC", "Platelets")


def with_pycocotools(path, rows) -> list[float]:
    """The twelve figures by pycocotools, called as its manual says."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: nothing to compare with")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        run = COCOeval(truth, truth.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats[:12].tolist()


def compare(path, rows, category_ids, names):
    result = coco.evaluate_coco(path, rows, category_ids, names)
    assert list(result.figures.values()) == with_pycocotools(path, rows)
    other = coco.evaluate_coco(path, rows, category_ids, names, evaluator="pycocotools")
    aps = []
    for mine, theirs in zip(result.classes, other.classes):
        for field in ("scores", "image_ids", "hits", "ignore"):
            assert np.array_equal(getattr(mine, field), getattr(theirs, field)), field
        assert mine.positives == theirs.positives
        # What the bootstrap will compute from the samples is the evaluator's own AP.
        outcomes = [np.where(mine.ignore >> t & 1, -1, mine.hits >> t & 1) for t in range(len(result.thresholds))]
        ap = np.mean([average_precision(o, sum(mine.positives.values()), "coco") for o in outcomes])
        assert ap == pytest.approx(mine.ap, abs=1e-12, nan_ok=True)
        aps.append(mine.ap)
    assert np.nanmean(aps) == pytest.approx(result.figures["AP"], abs=1e-12)
    return result


def random_set(seed: int, images: int = 60, classes: int = 6, crowds: float = 0.05):
    """(annotations, results): objects of all sizes, detections near them and anywhere, equal scores among them."""
    rng = np.random.default_rng(seed)
    ids = sorted(rng.choice(90, classes, replace=False).tolist())
    annotations, results = [], []

    def box():
        size = np.exp(rng.uniform(1.5, 5.5, 2))
        return np.concatenate((rng.uniform(0, 640 - size[0], 1), rng.uniform(0, 480 - size[1], 1), size)).round(2)

    for image_id in range(1, images + 1):
        for _ in range(rng.integers(0, 9)):
            at, category = box(), int(rng.choice(ids))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "bbox": at.tolist(),
                 "area": float(at[2] * at[3] * rng.uniform(0.4, 1)), "iscrowd": int(rng.random() < crowds)}
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                near = at + rng.normal(0, 0.12, 4) * np.tile(at[2:], 2)
                near[2:] = near[2:].clip(1)
                results.append(
                    {"image_id": image_id, "category_id": category, "bbox": near.round(2).tolist(),
                     "score": round(float(rng.random()), 2)}
                )  # fmt: skip
        for _ in range(rng.integers(0, 130)):
            results.append(
                {"image_id": image_id, "category_id": int(rng.choice(ids)), "bbox": box().tolist(),
                 "score": round(float(rng.random()) / 3, 2)}
            )  # fmt: skip
    truth = {
        "info": {},
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 640, "height": 480} for k in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in ids],
        "annotations": annotations,
    }
    return truth, results, ids


@pytest.mark.parametrize("seed", range(3))
def test_random_detections_give_pycocotools_figures(tmp_path, seed):
    truth, rows, ids = random_set(seed)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    result = compare(tmp_path / "truth.json", rows, ids, [f"class {k}" for k in ids])
    assert 0.05 < result.figures["AP"] < 0.9 and result.evaluator == coco.find_evaluator()[0]


def test_bccd_exported_to_coco_gives_pycocotools_figures(shared, tmp_path):
    images = read_voc(shared / "data" / "bccd", "test", NAMES)
    (tmp_path / "truth.json").write_text(json.dumps(export_coco(images, NAMES)))
    golden = json.loads((shared / "reference" / "golden" / "voc_average_precision.json").read_text())
    found = {image.name: ([], [], []) for image in images}
    for name, label, score, *box in golden["detections"]:
        for column, value in zip(found[name], (box, score, label)):
            column.append(value)
    dicts = [dict(zip(("boxes", "scores", "labels"), found[image.name])) for image in images]
    rows = coco_results(dicts, range(1, len(images) + 1), [1, 2, 3])
    assert compare(tmp_path / "truth.json", rows, [1, 2, 3], NAMES).figures["AP50"] > 0.4


def test_nothing_found_scores_zero(tmp_path):
    truth, _, ids = random_set(5, images=5)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for evaluator in (None, "pycocotools"):
        if evaluator:
            pytest.importorskip("pycocotools")
        result = coco.evaluate_coco(tmp_path / "truth.json", [], ids, [str(k) for k in ids], evaluator=evaluator)
        assert result.figures["AP"] == 0 and result.figures["AR_100"] == 0


def test_some_images_only(tmp_path):
    truth, rows, ids = random_set(6)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    some = [3, 5, 8, 13, 21]
    whole = coco.evaluate_coco(tmp_path / "truth.json", rows, ids, [str(k) for k in ids], image_ids=some)
    part = {**truth, "images": [i for i in truth["images"] if i["id"] in some],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in some]}  # fmt: skip
    (tmp_path / "part.json").write_text(json.dumps(part))
    assert list(whole.figures.values()) == with_pycocotools(
        tmp_path / "part.json", [row for row in rows if row["image_id"] in some]
    )


def test_results_have_width_and_height_and_the_right_ids():
    found = [{"boxes": np.array([[1.0, 2, 11, 22]]), "scores": np.array([0.5]), "labels": np.array([2])}]
    assert coco_results(found, [139], [17, 18]) == [
        {"image_id": 139, "category_id": 18, "bbox": [1, 2, 10, 20], "score": 0.5}
    ]


def test_a_missing_evaluator_is_said_clearly(monkeypatch):
    monkeypatch.setattr(coco, "_EVALUATORS", {"absent": ("no_such_module", "no_such_module")})
    with pytest.raises(BackendUnavailable, match=r"absent, which is not installed: pip install .*\[eval\]"):
        coco.find_evaluator()
    with pytest.raises(DatasetError, match="unknown evaluator 'fast'"):
        coco.find_evaluator("fast")
