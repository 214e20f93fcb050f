"""Stems that the package brings along, in front of torchvision's layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torchvision
from torchvision.models import get_weight

import jpegdeep_torch
from jpegdeep_torch import Classifier
from jpegdeep_torch.errors import CheckpointError
from jpegdeep_torch.models.config import MODELS
from jpegdeep_torch.models.stem_file import load_stem
from jpegdeep_torch.pretrained import WEIGHTS
from jpegdeep_torch.pretrained.table import FILES
from jpegdeep_torch.torch_checkpoints import convert
from jpegdeep_torch.torch_checkpoints.networks import NETWORKS
from jpegdeep_torch.utils.files import sha256_of

ROWS = [row for row in WEIGHTS if row.name == "imagenet"]


@pytest.mark.parametrize("file", sorted(FILES.glob("*_stem_*.safetensors")), ids=lambda file: file.stem)
def test_files_are_small_and_sound(file):
    assert file.stat().st_size < 1_000_000
    stem, info = load_stem(file)
    assert all(value.isfinite().all() for value in stem.state_dict().values())
    assert (info.layer, info.stride, info.out_channels) == ("features.6", 8, 32)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.model)
def test_later_layers_come_from_torchvisions_file(row, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    with pytest.raises(CheckpointError, match="cannot be had"):
        jpegdeep_torch.create_model(row.model, weights="imagenet")
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2()
    url = get_weight("MobileNet_V2_Weights.IMAGENET1K_V1").url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    torch.save(theirs.state_dict(), file)
    known = tuple(dataclasses.replace(network, weights_sha256=sha256_of(file)[:8]) for network in NETWORKS)
    monkeypatch.setattr(convert, "NETWORKS", known)
    model = jpegdeep_torch.create_model(row.model, weights="imagenet")
    assert model.training and model.info.coefficients == "native" and model.config.num_classes == 1000
    own, held = model.state_dict(), theirs.state_dict()
    later = [key for key in own if not key.startswith("stem.") and "num_batches" not in key]
    assert "features.7.conv.0.0.weight" in later and all(torch.equal(own[key], held[key]) for key in later)
    stem, _ = load_stem(FILES / f"mobilenet_v2_stem_{MODELS[row.model].trunk.stem}.safetensors")
    shipped = stem.state_dict()
    assert all(torch.equal(own[f"stem.{key}"], shipped[key]) for key in shipped if "num_batches" not in key)
    assert Classifier(model.eval(), model.info.preparation()).preset.coefficients == "native"


def _no_network(*_arguments: object, **_options: object) -> None:
    raise OSError("no network")
