"""A COCO run logs COCO's figures: those of the evaluating command on the same weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jpegdeep_torch.cli.evaluate import coco as eval_coco
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import ConfigError
from jpegdeep_torch.evaluation.voc import evaluate_voc
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.training.report import Callbacks
from jpegdeep_torch.training.run import make_plan, read_for_all, train
from jpegdeep_torch.training.run_folder import read_log
from tests.training.make_dataset import CLASSES, make_voc

SIZES = ("AP_small", "AP_medium", "AP_large")


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    """The images of `make_voc` as a COCO set: category ids with a gap, a crowd, and areas below the boxes' own."""
    root = tmp_path_factory.mktemp("coco")
    voc = make_voc(root / "voc", count=10, size=(360, 480))
    images, annotations = [], []
    for number, image in enumerate(read_voc(voc, "train", CLASSES), start=1):
        images.append({"id": 7 * number, "file_name": image.path.name, "height": image.height_px,
                       "width": image.width_px})  # fmt: skip
        for k, (box, label) in enumerate(zip(image.boxes.tolist(), image.labels.tolist())):
            width, height = box[2] - box[0], box[3] - box[1]
            area = (900.0, 5000.0, 10000.0)[(number + k) % 3]  # COCO's are those of outlines, and decide on the size
            annotations.append({"id": len(annotations) + 1, "image_id": 7 * number, "category_id": 3 * label,
                                "bbox": [box[0], box[1], width, height], "area": area,
                                "iscrowd": int(number == 2 and k == 0)})  # fmt: skip
    categories = [{"id": 3 * label, "name": name} for label, name in enumerate(CLASSES, start=1)]
    (root / "annotations").mkdir()
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    for image_set in ("train", "val"):
        (root / "annotations" / f"instances_{image_set}.json").write_text(text)
        (root / image_set).mkdir()
        for image in (voc / "JPEGImages").iterdir():
            (root / image_set / image.name).write_bytes(image.read_bytes())
    return root


@pytest.fixture(scope="module")
def config(coco):
    sets = {name: [{"root": str(coco), "set": name_of}] for name, name_of in (("train", "train"), ("evaluate", "val"))}
    return {
        "model": {"name": "ssd300_vgg16_dct", "width": 0.0625, "scale_to_data": True},
        "data": {"kind": "coco", "preset": "coco", "workers": 0, **sets},
        "augmentation": {"enabled": False},
        "optimizer": {"kind": "adamw", "learning_rate": 4e-3, "base_batch_size": 5, "clip_norm": 5.0},
        "schedule": {"kind": "constant"},
        "run": {"batch_size": 5, "steps_per_epoch": 40, "epochs": 1, "threads": 1, "log_steps": 10},
    }


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A short run on it that has learnt something."""
    return train(config, output=tmp_path_factory.mktemp("run") / "run")


def test_the_log_has_the_figures_of_the_command(run, coco, tmp_path):
    (logged,) = read_log(run.folder, "evaluation")
    eval_coco([str(run.last), str(coco), "--set", "val", "--workers", "0", "--json", str(tmp_path / "a.json")])
    (said,) = json.loads((tmp_path / "a.json").read_text())["results"]
    assert said["figures"].keys() <= logged.keys() and len(said["figures"]) == 12
    for name, value in said["figures"].items():
        assert logged[name] == pytest.approx(value, abs=1e-6), name
    assert logged["mAP"] == logged["AP"] > 0.01 and all(logged[name] > -1 for name in SIZES)
    assert len({round(logged[name], 6) for name in SIZES}) > 1  # the file's areas count, not the boxes'
    for row in said["classes"]:
        assert logged[f"AP/{row['name']}"] == pytest.approx(row["ap"], abs=1e-6)


def test_they_are_not_voc_s(run, coco):
    """What was logged before: VOC's rule, with a border pixel, at one overlap alone."""
    (logged,) = read_log(run.folder, "evaluation")
    images = read_voc(coco / "voc", "train", CLASSES)
    found = Detector.load(run.last, workers=0).predict([image.path for image in images])
    before = evaluate_voc(images, [{k: v.numpy() for k, v in each.items()} for each in found], CLASSES).mean["area"]
    assert np.isfinite(before) and abs(before - logged["mAP"]) > 1e-3


def test_without_an_evaluator_the_run_does_not_begin(config, tmp_path, monkeypatch):
    for module in ("hotcoco", "pycocotools", "pycocotools.coco"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it is an ImportError
    with pytest.raises(ConfigError, match=r"data\.evaluate: .*hotcoco or pycocotools.*pip install '.*\[eval\]'"):
        train(config, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    parsed = read_for_all(config, output=tmp_path / "run", changes=["run.evaluate_every=0"])
    assert make_plan(config, parsed, writes=True, resume=False, callbacks=Callbacks()).data.coco  # nothing is evaluated
