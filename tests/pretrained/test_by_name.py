"""Weights that are had by name: torchvision's through torch.hub's cache, and files that the package brings along."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torchvision.models import get_weight

import jpegdeep_torch
from jpegdeep_torch import Classifier, Detector
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.models import MODELS, create_model
from jpegdeep_torch.pretrained import WEIGHTS, load_model, table, weights_file
from jpegdeep_torch.torch_checkpoints import convert
from jpegdeep_torch.torch_checkpoints.networks import NETWORKS
from jpegdeep_torch.utils.files import sha256_of
from jpegdeep_torch.weights import save_weights
from tests.torch_checkpoints.test_torchvision import build


def test_every_row_says_what_it_is():
    assert len({(row.name, row.model) for row in WEIGHTS}) == len(WEIGHTS)
    for row in WEIGHTS:
        assert row.model in MODELS and row.source and row.licence and row.takes
        assert len(row.sha256) >= 8 and set(row.sha256) <= set("0123456789abcdef")


@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row.name)
def test_torchvisions_files_are_those_of_its_table(row):
    weights = get_weight(row.weights)
    assert f"-{row.weights_sha256}." in weights.url
    assert row.megabytes == pytest.approx(weights.meta["_file_size"] * 2**20 / 1e6, abs=1)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Two rows called 'cells', a detector and a classifier, whose files are in the package."""
    rows = []
    for name in ("ssd300_vgg16_dct", "vgg16_dct"):
        save_weights(create_model(name, 3, width=1 / 32, seed=0), tmp_path / name, class_names=("a", "b", "c"))
        rows.append(table.shipped("cells", name, name, source="ours", licence="MIT", sha256="0" * 64))
    monkeypatch.setattr(table, "FILES", tmp_path)
    rows = [table.shipped("cells", r.model, r.model, source="ours", licence="MIT", sha256="0" * 64) for r in rows]
    monkeypatch.setattr(table, "WEIGHTS", (*WEIGHTS, *rows))
    return tmp_path


def test_a_name_stands_for_its_file(shipped, monkeypatch):
    assert Detector.load("cells").config.name == "ssd300_vgg16_dct"
    assert Classifier.load("cells").config.name == "vgg16_dct"
    model = jpegdeep_torch.create_model("vgg16_dct", weights="cells")
    assert model.training and model.info.class_names == ("a", "b", "c")
    with weights_file("cells", model="vgg16_dct") as file:
        assert torch.equal(model.fc2.weight, load_model(file).fc2.weight)
    with pytest.raises(ModelError, match="'cells': several for one network; they are for ssd300_vgg16_dct, vgg16_dct"):
        load_model("cells")
    with pytest.raises(ModelError, match="'cells': none for vgg16"):
        jpegdeep_torch.create_model("vgg16", weights="cells")
    with pytest.raises(ModelError, match="unknown model 'vgg17'"):
        jpegdeep_torch.create_model("vgg17", weights="cells")
    with pytest.raises(ModelError, match="num_classes 3, asked for 4"):
        jpegdeep_torch.create_model("vgg16_dct", 4, weights="cells")
    with pytest.raises(CheckpointError, match="nowhere: no such file"):
        load_model("nowhere")
    monkeypatch.chdir(shipped)  # a path is a file, whatever names there are
    Path("vgg16_dct").rename("cells")
    assert load_model(Path("cells")).config.name == load_model("./cells").config.name == "vgg16_dct"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """torch.hub's folder of checkpoints, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    return Path(torch.hub.get_dir()) / "checkpoints"


def _no_network(*_arguments: object, **_options: object) -> None:
    raise OSError("no network")


@pytest.mark.filterwarnings("ignore")
def test_torchvisions_weights_from_the_hubs_cache(cache, monkeypatch):
    """Nothing is downloaded where the cache has the file, under the name that torchvision gives it."""
    with pytest.raises(CheckpointError, match="cannot be had"):
        jpegdeep_torch.create_model("ssd300_vgg16", weights="torchvision")
    theirs = build("ssd300_vgg16")
    file = cache / get_weight("SSD300_VGG16_Weights.COCO_V1").url.rpartition("/")[2]
    torch.save(theirs.state_dict(), file)
    with pytest.raises(CheckpointError, match=r"torchvision's SSD300_VGG16_Weights.COCO_V1 with b556d3b4: remove it"):
        Detector.load("torchvision")
    known = tuple(dataclasses.replace(row, weights_sha256=sha256_of(file)[:8]) for row in NETWORKS)
    monkeypatch.setattr(convert, "NETWORKS", known)
    model = jpegdeep_torch.create_model("ssd300_vgg16", weights="torchvision")
    assert model.training and model.config.num_classes == 90 and model.config.box_rules.cut_before_nms
    assert torch.equal(model.trunk.fc6.weight, theirs.backbone.extra[0][7][1].weight)
    assert Detector.load("torchvision").config.name == "ssd300_vgg16"
    with pytest.raises(ModelError, match="num_classes 90, asked for 3"):
        jpegdeep_torch.create_model("ssd300_vgg16", 3, weights="torchvision")
    with pytest.raises(ModelError, match="'torchvision': none for ssd300_vgg16_dct; they are for ssd300_vgg16, "):
        jpegdeep_torch.create_model("ssd300_vgg16_dct", weights="torchvision")
    file.unlink()
