"""keras-applications's VGG16 and ResNet50 in every published form, against what keras-applications answered."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from jpegdeep_torch.cli.convert import FLAGS
from jpegdeep_torch.errors import CheckpointError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.original import Settings
from jpegdeep_torch.keras.report import summary
from jpegdeep_torch.keras.verify import run_network
from jpegdeep_torch.weights import load_model
from tests.keras.samples import DATA, inputs

KERAS_1 = {
    "kernel": "W", "bias": "b", "gamma": "gamma", "beta": "beta", "moving_mean": "running_mean",
    "moving_variance": "running_std",
}  # fmt: skip
FORMS = {  # name -> (ResNet's layers have the names of 2015, Keras 1's weight names)
    "keras 1": (True, True),
    "keras 2": (True, False),
    "today": (False, False),
}
TOP = ("fc1", "fc2", "predictions")


def layer_of_2015(name: str) -> str:
    """Today's name of a ResNet50's layer -> the one in the files that are published for Keras 1."""
    found = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", name)
    if found:
        stage, block, place, kind = found.groups()
        branch = {"0": "1", "1": "2a", "2": "2b", "3": "2c"}[place]
        return f"{'res' if kind == 'conv' else 'bn'}{stage}{'abcdef'[int(block) - 1]}_branch{branch}"
    return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}.get(name, name)


def stored(network: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(weights by 'layer/kind', answers)."""
    with np.load(DATA / f"applications_{network}.npz") as file:
        held = {key: file[key] for key in file}
    answers = {key.partition("/")[2]: value for key, value in held.items() if key.startswith("answer/")}
    return {k: v.astype(np.float32) for k, v in held.items() if not k.startswith("answer/")}, answers


def published(path, network: str, form: str, top: bool = True):
    """A small file of that form."""
    old_layers, old_weights = FORMS[form]
    groups: dict[str, dict[str, np.ndarray]] = {"input_1": {}}
    for key, value in stored(network)[0].items():
        layer, kind = key.split("/")
        if top or layer not in TOP:
            if old_layers and network == "resnet50":
                layer = layer_of_2015(layer)
            name = f"{layer}_{KERAS_1[kind]}{'_1' if network == 'vgg16' else ''}" if old_weights else f"{layer}/{kind}"
            groups.setdefault(layer, {})[f"{name}:0"] = value
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in groups]
        if not old_weights:
            file.attrs["keras_version"], file.attrs["backend"] = b"2.1.0", b"tensorflow"
        for layer, weights in groups.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, value in weights.items():
                group[name] = value
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["vgg16", "resnet50"])
def test_with_top(network, form, tmp_path):
    done = convert_keras(
        published(tmp_path / "a.h5", network, form),
        settings=Settings(epsilon=1.001e-5) if (network, form) == ("resnet50", "keras 2") else None,
    )
    assert (done.info.model, done.info.width, done.info.num_classes) == (network, 1 / 16, 10)
    assert (done.info.preset, done.initial, done.left_out) == ("imagenet", [], [])
    answer = run_network(load_model(done.output), inputs(network))["probabilities"]
    answers = stored(network)[1]
    expected = answers["probabilities_2017" if (network, form) == ("resnet50", "keras 1") else "probabilities"]
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["vgg16", "resnet50"])
def test_without_top(network, form, tmp_path):
    """The trunk is the file's; the top starts at seeded values, for any number of classes."""
    settings = Settings(epsilon=1.001e-5) if (network, form) == ("resnet50", "keras 2") else None
    source = published(tmp_path / "a.h5", network, form, top=False)
    done = convert_keras(source, num_classes=7, settings=settings)
    assert (done.info.model, done.info.num_classes) == (network, 7)
    top = {"fc1", "fc2", "predictions"} if network == "vgg16" else {"fc1000"}
    assert {key.split(".")[0] for key in done.initial} == top
    (pixels,) = inputs(network)
    with torch.inference_mode():
        features = load_model(done.output).trunk(torch.from_numpy(pixels).permute(0, 3, 1, 2))[1]
    expected = stored(network)[1]["features_2017" if (network, form) == ("resnet50", "keras 1") else "features"]
    np.testing.assert_allclose(features.permute(0, 2, 3, 1).numpy(), expected, rtol=0, atol=1e-5 * expected.max())


def test_epsilon_is_told_or_assumed(tmp_path):
    """`running_std` holds a variance; what is assumed of the epsilon stands in the summary."""
    values, _ = stored("resnet50")
    for form, by, told in (("keras 1", 1e-3 - 1e-5, "0.001"), ("today", 1e-8, "1.001e-05"), ("keras 2", 0, "1e-05")):
        done = convert_keras(published(tmp_path / "a.h5", "resnet50", form))
        ours = load_file(done.output)["trunk.early.2a.branch2a_bn.running_var"]
        np.testing.assert_allclose(ours, values["conv2_block1_1_bn/moving_variance"] + by, rtol=1e-7)
        assert f"epsilon {told}" in summary(done) and "--epsilon" in summary(done, FLAGS)


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("network", "to"),
    [
        ("vgg16", "ssd300_vgg16"),
        ("vgg16", "ssd512_vgg16"),
        ("vgg16", "ssd300_vgg16_dct"),
        ("resnet50", "ssd300_resnet50"),
    ],
)
def test_to_takes_what_fits_and_lists_the_rest(network, to, form, top, tmp_path):
    source = published(tmp_path / "a.h5", network, form, top)
    done = convert_keras(source, to=to, num_classes=3)
    assert (done.info.model, done.info.num_classes, done.info.width) == (to, 3, 1 / 16)
    initial = {".".join(key.split(".")[:2]) for key in done.initial}
    assert {key for key in initial if key.startswith("class_heads")} != set()
    assert ("trunk.fc6" in initial) == (network == "vgg16" and not top)
    left = {path.split("/")[0] for path in done.left_out}
    assert ("predictions" in left or "fc1000" in left) == top
    ours, values = load_file(done.output), stored(network)[0]
    if to == "ssd300_vgg16_dct":
        np.testing.assert_array_equal(ours["trunk.base.block5.block5_conv3.bias"], values["block5_conv3/bias"])
        assert "block1_conv1" in left
    elif network == "vgg16":
        key = "trunk.base.stem.block1_conv1.weight"
        np.testing.assert_array_equal(ours[key], values["block1_conv1/kernel"].transpose(3, 2, 0, 1))
    else:
        np.testing.assert_array_equal(ours["trunk.conv1.weight"], values["conv1_conv/kernel"].transpose(3, 2, 0, 1))


def test_to_takes_a_file_that_fits_no_network(tmp_path):
    """A layer that is missing and one that nobody knows are no errors: they are listed."""
    source = published(tmp_path / "a.h5", "vgg16", "today", top=False)
    with h5py.File(source, "r+") as file:
        del file["block2_conv2"]
        file.attrs["layer_names"] = [name.encode() for name in file]
        file["attention/attention/kernel:0"] = np.zeros((3, 3), np.float32)
    with pytest.raises(CheckpointError, match="missing: block2_conv2/kernel"):
        convert_keras(source)
    done = convert_keras(source, to="ssd300_vgg16")
    assert "trunk.base.stem.block2_conv2.weight" in done.initial
    assert "attention/attention/kernel:0" in done.left_out
