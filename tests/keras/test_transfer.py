"""A detector started from a classifier's checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from safetensors.numpy import load_file

from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.report import summary
from jpegdeep_torch.models.vgg import dense_to_convolution
from jpegdeep_torch.weights import load_model
from tests.keras.files import torch_layout, weights_of, write
from tests.keras.tables import CLASSIFIERS, network

SMALL = 1 / 32


def test_fc6_is_what_scipys_zoom_gives():
    """The reference: `scipy.ndimage.zoom(fc1, (0.42857, 0.42857, 1, 1))` of every 4th output."""
    fc1 = np.random.RandomState(0).normal(0, 1, (7, 7, 6, 16)).astype(np.float32)
    expected = scipy.ndimage.zoom(fc1[..., ::4], (0.42857, 0.42857, 1, 1))
    assert expected.shape == (3, 3, 6, 4)
    fc6 = dense_to_convolution(torch.from_numpy(fc1).permute(3, 2, 0, 1), 4)
    np.testing.assert_allclose(fc6.permute(2, 3, 1, 0), expected, rtol=0, atol=1e-5)


def test_subsampling_keeps_every_third_tap():
    fc1 = np.arange(7 * 7 * 2 * 8, dtype=np.float32).reshape(7, 7, 2, 8)
    fc6 = dense_to_convolution(torch.from_numpy(fc1).permute(3, 2, 0, 1), 2).permute(2, 3, 1, 0)
    assert fc6.shape == (3, 3, 2, 2)
    assert fc6[2, 1, 1, 1] == fc1[6, 3, 1, 4]
    fc2 = torch.arange(64.0).view(8, 8, 1, 1)
    np.testing.assert_array_equal(dense_to_convolution(fc2, 2)[:, :, 0, 0], [[0, 4], [32, 36]])
    np.testing.assert_array_equal(dense_to_convolution(torch.arange(120), 32)[:5], [0, 3, 7, 11, 15])


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifier_to_its_own_detector(kind, tmp_path):
    """Everything but the classifier's last layer (VGG: with fc1 and fc2 cut) goes into the trunk, bit for bit."""
    values = write(tmp_path / "a.h5", network(kind, SMALL))
    done = convert_keras(tmp_path / "a.h5", to=f"ssd300_{kind}", num_classes=3)
    assert (done.info.model, done.info.num_classes, done.info.width) == (f"ssd300_{kind}", 3, SMALL)
    assert {key.split(".")[0] for key in done.initial} == {"source_norm", "extras", "class_heads", "box_heads"}
    assert {path.split("/")[0] for path in done.left_out} == {"predictions" if "vgg" in kind else "fc1000"}
    assert done.left_out[0] in summary(done)
    ours = load_file(done.output)
    arrived = {(v.shape, v.tobytes()) for v in ours.values()}
    for layer, parts in values.items():
        for weight, value in parts.items():
            if layer in ("fc1", "fc2", "predictions", "fc1000"):
                continue
            assert (torch_layout(value).shape, torch_layout(value).tobytes()) in arrived, (layer, weight)
    if "vgg" in kind:
        fc1, fc2 = values["fc1"], values["fc2"]
        np.testing.assert_array_equal(
            ours["trunk.fc6.weight"], torch_layout(fc1["kernel"].reshape(7, 7, 16, 128)[::3, ::3, :, ::4])
        )
        np.testing.assert_array_equal(ours["trunk.fc6.bias"], fc1["bias"][::4])
        np.testing.assert_array_equal(ours["trunk.fc7.weight"][:, :, 0, 0], fc2["kernel"][::4, ::4].T)
    assert load_model(done.output).config.num_classes == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifier_to_every_detector(kind, tmp_path):
    """Layers of the same name and shape are taken, all others are listed as initial; nothing is lost in between."""
    net = network(kind, SMALL)
    write(tmp_path / "a.h5", net)
    held = {(layer, weight) for layer, parts in weights_of(net).items() for weight in parts}
    for other in CLASSIFIERS:
        target = network(f"ssd300_{other}", SMALL)
        try:
            done = convert_keras(tmp_path / "a.h5", to=f"ssd300_{other}", dry_run=True)
        except CheckpointError as error:
            assert "no layer in common" in str(error) and ("vgg" in kind) != ("vgg" in other)
            continue
        tensors = sum(len(layer.weights) for layer in target.layers)
        assert len(done.initial) < tensors
        assert len(held) - len(done.left_out) <= tensors - len(done.initial)
        assert done.parameters == sum(
            int(np.prod(shape)) for x in target.layers for name, shape in x.weights if not name.startswith("moving_")
        )


def test_detector_to_a_detector_of_other_classes(tmp_path):
    net = network("ssd300_vgg16_dct", SMALL, classes=20)
    values = write(tmp_path / "a.h5", net)
    done = convert_keras(tmp_path / "a.h5", to="ssd300_vgg16_dct", num_classes=3)
    assert {key.split(".")[0] for key in done.initial} == {"class_heads"}
    np.testing.assert_array_equal(load_file(done.output)["box_heads.1.bias"], values["fc7_mbox_loc"]["bias"])


def test_initial_values_are_seeded(tmp_path):
    write(tmp_path / "a.h5", network("vgg16_dct", SMALL))
    first, second = (
        load_file(convert_keras(tmp_path / "a.h5", tmp_path / name, to="ssd300_vgg16_dct").output) for name in "bc"
    )
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert first["extras.conv6_1.weight"].std() > 0
    assert (first["source_norm.weight"] == 20).all()


def test_impossible_transfers(tmp_path):
    write(tmp_path / "a.h5", network("vgg16_dct", SMALL))
    with pytest.raises(ModelError, match="unknown model 'ssd512'"):
        convert_keras(tmp_path / "a.h5", to="ssd512")
    with pytest.raises(ModelError, match="a classifier, expected a detector"):
        convert_keras(tmp_path / "a.h5", to="vgg16")
    with pytest.raises(ModelError, match="num_classes is 0"):
        convert_keras(tmp_path / "a.h5", to="ssd300_vgg16", num_classes=0)
