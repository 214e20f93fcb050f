"""Telling files apart, in every dialect of Keras's HDF5 format."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.report import listing, summary
from tests.keras.files import Dialect, torch_layout, write
from tests.keras.tables import NETWORKS, network

SMALL = 1 / 32
HEADS = ("mbox_conf", "mbox_loc")
COCO = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
DECONV = (("deconv_cb", "conv2d_transpose_7"), ("deconv_cr", "conv2d_transpose_12"))
DIALECTS = {
    "keras 2.0": Dialect(version="2.0.8"),
    "keras 2.3": Dialect(version="2.3.1", text="str"),
    "tf.keras": Dialect(version="2.4.0-tf", text="str", whole=True),
    "whole model, bytes": Dialect(whole=True),
    "chunked attributes": Dialect(chunks=3),
    "chunked attributes, whole": Dialect(chunks=2, whole=True, text="str"),
    "multi-GPU": Dialect(nested="model_1"),
    "multi-GPU, whole": Dialect(nested="model_1", whole=True, text="str"),
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_dialects_hold_the_same_network(dialect, tmp_path):
    net = network("ssd300_vgg16_dct", SMALL, classes=4)
    values = write(tmp_path / "a.h5", net, dialect)
    done = convert_keras(tmp_path / "a.h5")
    assert (done.info.model, done.info.num_classes, done.initial, done.left_out) == ("ssd300_vgg16_dct", 4, [], [])
    assert dialect.version in done.origin
    ours = load_file(done.output)
    assert done.parameters == sum(v.size for k, v in ours.items() if "running_" not in k)
    np.testing.assert_array_equal(ours["trunk.fc6.weight"], torch_layout(values["fc6"]["kernel"]))
    np.testing.assert_array_equal(ours["trunk.base.luma_norm.running_var"], values["b_norm_y"]["moving_variance"])
    np.testing.assert_array_equal(ours["source_norm.weight"], values["block4_conv3_norm"]["block4_conv3_norm_gamma"])
    np.testing.assert_array_equal(ours["box_heads.5.bias"], values["conv9_2_mbox_loc"]["bias"])
    assert sum(v.size for v in ours.values()) == sum(v.size for parts in values.values() for v in parts.values())


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_told_from_its_layers(name, whole, tmp_path):
    detector = name.startswith("ssd")
    net = network(name, SMALL, classes=7, scales=COCO)
    write(tmp_path / "a.h5", net, Dialect(whole=whole))
    done = convert_keras(tmp_path / "a.h5", dry_run=True)
    assert done.info.model == ("ssd300_vgg16" if name == "ssd_keras_ssd300" else name)
    assert (done.info.num_classes, done.info.width) == (7, SMALL)
    if detector and whole:
        assert done.info.anchor_scales == COCO
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


@pytest.mark.parametrize("name", ["ssd300_vgg16_dct_deconv", "vgg16_dct_deconv"])
def test_unnamed_layers_of_any_number(name, tmp_path):
    values = write(tmp_path / "a.h5", network(name, SMALL), Dialect(renamed=DECONV))
    ours = load_file(convert_keras(tmp_path / "a.h5").output)
    for layer in ("deconv_cb", "deconv_cr"):
        (key,) = [key for key in ours if key.endswith(f"{layer}.weight")]
        np.testing.assert_array_equal(ours[key], torch_layout(values[layer]["kernel"]))


@pytest.mark.parametrize("name", ["ssd300_vgg16_dct", "ssd300_resnet50_lcrfa", "ssd300_resnet50", "ssd_keras_ssd300"])
def test_transfer_scripts_file_without_heads(name, tmp_path):
    net = network(name, SMALL)
    extras = ("conv6", "conv7", "conv8", "conv9")
    missing = tuple(x.name for x in net.layers if x.name.endswith(HEADS) or x.name.startswith(extras))
    write(tmp_path / "a_ssd.h5", net, skip=missing)
    done = convert_keras(tmp_path / "a_ssd.h5", num_classes=5)
    assert (done.info.model, done.info.num_classes) == ("ssd300_vgg16" if name == "ssd_keras_ssd300" else name, 5)
    assert {key.split(".")[0] for key in done.initial} == {"class_heads", "box_heads", "extras"}
    assert "class_heads.0" in summary(done)
    assert load_file(done.output)["class_heads.0.bias"].shape == (4 * 6,)


def test_arguments_override_what_the_file_says(tmp_path):
    write(tmp_path / "a.h5", network("ssd300_vgg16_dct_y", SMALL, classes=3), Dialect(whole=True))
    names = ("RBC", "WBC", "Platelets")
    done = convert_keras(tmp_path / "a.h5", tmp_path / "b", scales="coco", preset="voc", class_names=names)
    assert (done.info.anchor_scales, done.info.preset, done.info.class_names) == (COCO, "voc", names)
    assert "as asked for" in summary(done) and "RBC, WBC, Platelets" in summary(done)
    with pytest.raises(ModelError, match="2 class names for 3 classes"):
        convert_keras(tmp_path / "a.h5", class_names=("a", "b"))
    with pytest.raises(ModelError, match="holds 3 classes, asked for 20"):
        convert_keras(tmp_path / "a.h5", num_classes=20)
    with pytest.raises(ModelError, match="7 positive numbers"):
        convert_keras(tmp_path / "a.h5", scales=(1.0, 2.0))


def test_listing_names_every_layer(tmp_path):
    net = network("resnet50_lcrfa_y", SMALL)
    write(tmp_path / "a.h5", net)
    text = listing(tmp_path / "a.h5")
    for layer in net.layers:
        assert (f"  {layer.name}: " in text) == bool(layer.weights)
    assert "nearest network: resnet50_lcrfa_y (jpeg_deep), 1000 classes: fits" in text


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    net = network("ssd300_vgg16_dct", SMALL, classes=4)
    write(tmp_path / "a.h5", net, skip=("fc6", "conv8_2_mbox_loc"))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        kernel = file["block4_conv2/block4_conv2/kernel:0"][...]
        del file["block4_conv2/block4_conv2/kernel:0"]
        file["block4_conv2/block4_conv2/kernel:0"] = kernel.transpose(3, 2, 0, 1)
        file["extra_layer/extra_layer/kernel:0"] = np.zeros((2, 2), np.float32)
    with pytest.raises(CheckpointError) as caught:
        convert_keras(tmp_path / "a.h5")
    for part in (
        "missing: fc6/kernel", "missing: fc6/bias", "missing: conv8_2_mbox_loc/kernel",
        "unexpected: extra_layer/kernel",
        "block4_conv2/kernel: shape (16, 16, 3, 3), expected (3, 3, 16, 16)", "ssd300_vgg16_dct with 4 classes",
    ):  # fmt: skip
        assert part in str(caught.value)
    assert not (tmp_path / "a.safetensors").exists()
