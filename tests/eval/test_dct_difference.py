"""'dct' against 'reencode': the command on small files, and its figures by hand."""

import json
import statistics

import pytest
import torch

from eval.benchmark.coefficient_difference import _matched
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg, picture
from tests.shapes import run


def test_the_command(dataset, weights, tmp_path):
    images, out = dataset / "JPEGImages", tmp_path / "d.json"
    done = run("dct_difference", weights(), images, "--json", out)
    assert done.returncode == 0 and "21 images" in done.stdout, done.stderr
    written = json.loads(out.read_text())
    (row,), samples = written["results"], written["samples"]
    reference = Detector.load(weights(), coefficients="reencode", workers=0)(images)
    assert row["detections"] == sum(len(answer["scores"]) for answer in reference)
    assert 0.95 < row["equal"] < 1 and 0.5 < row["found"] <= 1
    scores, boxes = samples["score_differences"], samples["box_differences_px"]
    assert len(scores) == len(boxes) == round(row["found"] * row["detections"])
    for found, values in ((row["score_difference"], scores), (row["box_difference_px"], boxes)):
        assert found["median"] == pytest.approx(statistics.median(values), rel=1e-4, abs=1e-9)
        assert found["largest"] == pytest.approx(max(values), rel=1e-4)
        assert sum(value <= found["p95"] for value in values) == pytest.approx(0.95 * len(values), abs=2)


def test_matches_by_hand():
    expected = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]),
        "scores": torch.tensor([0.9, 0.8, 0.005]),
        "labels": torch.tensor([1, 2, 1]),
    }
    got = {
        "boxes": torch.tensor([[0.0, 1, 10, 12], [20, 20, 30, 30]]),
        "scores": torch.tensor([0.7, 0.8]),
        "labels": torch.tensor([1, 1]),  # the second is of another class
    }
    ((score, box),) = _matched(got, expected, 0.01)
    assert score == pytest.approx(0.2) and box == 2


def test_mistakes(tmp_path):
    save_weights(create_model("ssd300_vgg16", width=0.125), tmp_path / "rgb")
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()))
    assert "expected a detector on DCT" in run("dct_difference", tmp_path / "rgb", tmp_path).stderr
    (tmp_path / "names").write_text("a\nb\n")
    done = run("dct_difference", tmp_path / "rgb", tmp_path, "--list", tmp_path / "names")
    assert done.returncode == 2 and "names 2 files, 1 of them" in done.stderr
