"""One safetensors file: round trips, metadata, and everything that can be wrong with it."""

from __future__ import annotations

import json
import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from jpegdeep_torch import Classifier, Detector
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.utils.files import written_whole
from jpegdeep_torch.weights import WeightsInfo, load_model, load_weights, read_info, save_weights

SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)


def small(name: str = "ssd300_vgg16_dct", classes: int = 3, seed: int = 0, **options):
    return create_model(name, classes, width=1 / 32, seed=seed, **options).eval()


def changed(source, target, tensors=None, metadata=None, drop=()):
    """A copy of a weights file with other tensors and metadata."""
    with safe_open(source, "pt") as file:
        stored = {key: value for key, value in (file.metadata() | (metadata or {})).items() if key not in drop}
    save_file(load_file(source) | (tensors or {}), target, metadata=stored)
    return target


@pytest.mark.parametrize("name", ["ssd300_vgg16_dct", "ssd300_resnet50_deconv_rfa", "resnet50_lcrfa", "vgg16"])
def test_round_trip(name, tmp_path):
    model = small(name)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)  # so that running statistics count
    info = save_weights(model, tmp_path / "a.safetensors", class_names=("a", "ü", "c"))
    again = load_model(tmp_path / "a.safetensors")
    assert again.info == info == read_info(tmp_path / "a.safetensors")
    assert info.preset == ("voc" if name.startswith("ssd") else "imagenet")
    assert (again.config, again.training, again.info.class_names) == (model.config, False, ("a", "ü", "c"))
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    inputs = [torch.randn(2, *shape) for shape in model.config.input_shapes().values()]
    for a, b in zip(model(*inputs), again(*inputs)):
        assert torch.equal(a, b)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in again.parameters() if p.ndim == 4)


def test_create_model_takes_a_file(tmp_path):
    """Training goes on from it: what the file says is the default, what is asked for must be the same."""
    model = small(anchor_scales=SCALES)
    info = save_weights(model, tmp_path / "a", class_names=("a", "b", "c"))
    for asked in ({}, {"num_classes": 3, "anchor_scales": "coco", "width": 1 / 32}, {"anchor_scales": SCALES}):
        again = create_model("ssd300_vgg16_dct", weights=tmp_path / "a", **asked)
        assert again.training and again.info == info and again.config == model.config
        state = again.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
        assert all(parameter.requires_grad and not parameter.is_meta for parameter in again.parameters())
    inputs = [torch.randn(2, *shape) for shape in model.config.input_shapes().values()]
    sum(y.sum() for y in again(*inputs)).backward()
    assert again.state_dict()["trunk.base.luma_norm.num_batches_tracked"] == 1


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("ssd300_vgg16", {}, "has model 'ssd300_vgg16_dct', asked for 'ssd300_vgg16'"),
        ("ssd300_vgg16_dct", {"num_classes": 4}, "has num_classes 3, asked for 4"),
        ("ssd300_vgg16_dct", {"anchor_scales": "coco"}, r"has anchor_scales \(0.1, .*asked for \(0.07"),
        ("ssd300_vgg16_dct", {"width": 1.0, "num_classes": 4}, "num_classes 3.*; width 0.03125, asked for 1.0"),
        ("ssd512", {"anchor_scales": "voc"}, "unknown model 'ssd512'"),
    ],
)
def test_create_model_refuses_a_file_of_another_network(tmp_path, name, asked, expected):
    save_weights(small(), tmp_path / "a")
    with pytest.raises(ModelError, match=expected):
        create_model(name, weights=tmp_path / "a", **asked)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    """safetensors itself writes the metadata in an order that changes from call to call."""
    model, names = small(), ("a", 'ü\n"', "c")
    for i in range(8):
        save_weights(model, tmp_path / str(i), class_names=names, coefficients="native")
    first = (tmp_path / "0").read_bytes()
    assert all((tmp_path / str(i)).read_bytes() == first for i in range(8))
    header = json.loads(first[8 : 8 + int.from_bytes(first[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    state, again = model.state_dict(), load_file(tmp_path / "0")
    assert again and all(torch.equal(again[key], state[key]) for key in again)
    assert read_info(tmp_path / "0").class_names == names


def test_metadata_says_all(tmp_path):
    save_weights(small(anchor_scales=SCALES), tmp_path / "a", preset="coco")
    with safe_open(tmp_path / "a", "pt") as file:
        metadata = file.metadata()
    assert metadata == {
        "format_version": "1", "model": "ssd300_vgg16_dct", "num_classes": "3", "preset": "coco", "width": "0.03125",
        "anchor_scales": "[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]",
    }  # fmt: skip
    assert load_model(tmp_path / "a").config.anchor_scales == SCALES


def test_metadata_survives():
    info = WeightsInfo("ssd300_vgg16", 2, SCALES, "ssd_keras", ("x", "y"), 0.5, "f.h5", "ab" * 32)
    assert WeightsInfo.from_metadata(info.to_metadata(), "f") == info


def test_every_key_that_does_not_fit_is_listed(tmp_path):
    save_weights(small(), tmp_path / "a")
    tensors = load_file(tmp_path / "a")
    missing, wrong = "extras.conv6_1.bias", "trunk.fc6.weight"
    tensors["stranger"], tensors[wrong] = torch.zeros(2), tensors[wrong][:, :, :1]
    del tensors[missing]
    with safe_open(tmp_path / "a", "pt") as file:
        save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "b", metadata=file.metadata())
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "b")
    for part in (f"missing: {missing}", "unexpected: stranger", f"{wrong}: shape (32, 16, 1, 3)", "3 differences"):
        assert part in str(caught.value)
    model, before = small(seed=1), small(seed=1)
    with pytest.raises(CheckpointError):
        load_weights(model, tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values()))
    with pytest.raises(CheckpointError, match="does not fit ssd300_vgg16_dct_y"):
        load_weights(small("ssd300_vgg16_dct_y"), tmp_path / "a")


def test_wrong_files(tmp_path):
    save_weights(small(), tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    for name, expected in (
        ("missing", "no such file"), (".", "is a folder"), ("model.h5", "convert_keras makes one"),
        ("empty", "not a readable safetensors file"), ("cut", "not a readable safetensors file"),
        ("plain", "format_version is None"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=expected) as caught:
            load_model(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_metadata_that_makes_no_sense(tmp_path):
    save_weights(small(), tmp_path / "a")
    for metadata, drop, expected in (
        ({"format_version": "2"}, (), "format_version is '2'"),
        ({"num_classes": "many"}, (), "ValueError"),
        ({"num_classes": "0"}, (), "at least 1"),
        ({"anchor_scales": "[1, 2]"}, (), "7 positive numbers"),
        ({"anchor_scales": "{"}, (), "cannot be read"),
        ({"preset": "other"}, (), "unknown preset 'other'"),
        ({"model": "ssd512"}, (), "unknown model 'ssd512'"),
        ({"class_names": '["a"]'}, (), "1 class names for 3 classes"),
        ({"width": "nan"}, (), "width"),
        ({}, ("model",), "KeyError"),
    ):
        path = changed(tmp_path / "a", tmp_path / "b", metadata=metadata, drop=drop)
        with pytest.raises(CheckpointError, match=expected):
            load_model(path)


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "a"
    target.write_text("older")
    with pytest.raises(KeyboardInterrupt), written_whole(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "older" and os.listdir(tmp_path) == ["a"]
    with written_whole(target) as temporary:
        temporary.write_text("whole")
        assert target.read_text() == "older"
    assert target.read_text() == "whole" and os.listdir(tmp_path) == ["a"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    for path, expected in ((tmp_path, "is a folder"), (tmp_path / "no" / "a", "does not exist")):
        with pytest.raises(CheckpointError, match=expected), written_whole(path):
            pass


def test_a_file_s_own_way_to_coefficients_is_taken(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(small(), path, "voc", coefficients="reencode")
    assert load_model(path).info.coefficients == "reencode" and Detector.load(path).preset.coefficients == "reencode"
    assert Detector.load(path, coefficients="native").preset.coefficients == "native"
    save_weights(small("vgg16_dct"), path, "imagenet", coefficients="native")
    assert Classifier.load(path).preset.coefficients == "native"
    save_weights(small(), path, "voc")
    assert load_model(path).info.coefficients is None and Detector.load(path).preset.coefficients == "native"
