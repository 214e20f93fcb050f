"""A YOLO set gives the figures of the same set in VOC's and COCO's form, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from jpegdeep_torch.cli.evaluate import coco as eval_coco
from jpegdeep_torch.cli.evaluate import voc as eval_voc
from jpegdeep_torch.cli.train import main as train
from jpegdeep_torch.data.annotation_lookup import GroundTruth
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.training.config import load_config
from jpegdeep_torch.training.datasets import read_training_data
from tests.set_forms import write_coco, write_voc, write_yolo
from tests.shapes import NAMES


@pytest.fixture(scope="module")
def forms(dataset, tmp_path_factory) -> dict[str, Path]:
    """The data set of tests/conftest.py as VOC has it, but for difficult objects, and in the two other forms."""
    root = tmp_path_factory.mktemp("forms")
    images = sorted(read_voc(dataset, "test", NAMES), key=lambda image: image.name)
    return {
        "voc": write_voc(root / "voc", images, NAMES),
        "coco": write_coco(root / "coco", images, NAMES, "val"),
        "yolo": write_yolo(root / "yolo", images, NAMES),
    }


def figures(command, weights, root, image_set, out):
    command([str(weights()), str(root), "--set", image_set, "--workers", "0", "--json", str(out)])
    (found,) = json.loads(out.read_text())["results"]
    return found


def test_the_figures_are_those_of_the_other_forms(forms, weights, tmp_path):
    by_voc = figures(eval_voc, weights, forms["voc"], "test", tmp_path / "a.json")
    by_yolo = figures(eval_voc, weights, forms["yolo"], "test", tmp_path / "b.json")
    keys = ("map_area", "map_11_points", "map_reference", "images", "classes")
    assert by_voc["map_area"] > 0 and {k: by_voc[k] for k in keys} == {k: by_yolo[k] for k in keys}
    by_coco = figures(eval_coco, weights, forms["coco"], "val", tmp_path / "c.json")
    by_yolo = figures(eval_coco, weights, forms["yolo"], "test", tmp_path / "d.json")
    assert by_coco["figures"]["AP50"] > 0 and by_coco["figures"] == by_yolo["figures"]


def test_the_ground_truth_is_found(forms):
    image = sorted((forms["yolo"] / "test/images").iterdir())[0]
    boxes, names = GroundTruth().objects(image)
    expected = next(each for each in read_voc(forms["voc"], "test", NAMES) if each.name == image.stem)
    assert [NAMES.index(name) + 1 for name in names] == expected.labels.tolist()
    assert abs(boxes - expected.boxes).max() < 1e-6
    Image.open(image).save(forms["yolo"] / "lonely.jpg")
    assert GroundTruth().objects(forms["yolo"] / "lonely.jpg") is None


CONFIG = """
[model]
name = "ssd300_vgg16_dct"
width = 0.03
[data]
kind = "{kind}"
train = [{{ root = "{root}", set = "test" }}]
evaluate = [{{ root = "{root}", set = "test" }}]
classes = ["disc", "square", "bar"]
workers = 0
[augmentation]
enabled = false
[run]
batch_size = 7
epochs = 1
threads = 1
"""


def test_training_reads_what_it_reads_of_the_other_form(forms, tmp_path, capsys):
    read = {}
    for kind in ("voc", "yolo"):
        (tmp_path / f"{kind}.toml").write_text(CONFIG.format(kind=kind, root=forms[kind].as_posix()))
        read[kind] = read_training_data(load_config(tmp_path / f"{kind}.toml").data)
    assert read["voc"].class_names == read["yolo"].class_names == NAMES
    for a, b in zip(read["voc"].train, read["yolo"].train, strict=True):
        assert a.name == b.name and a.labels.tolist() == b.labels.tolist()
        assert a.path.read_bytes() == b.path.read_bytes()
        assert abs(a.boxes - b.boxes).max() < 1e-9
    train([str(tmp_path / "yolo.toml"), "-o", str(tmp_path / "run")])
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows][-1] == "evaluation" and 0 <= rows[-1]["mAP"] <= 1
    assert "3 classes" in capsys.readouterr().out
