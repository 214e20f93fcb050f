"""Every network against Keras, from the repository alone: small checkpoints that Keras wrote and what it answered."""

from __future__ import annotations

import json
import lzma

import h5py
import numpy as np
import pytest
import torch

from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.verify import compare_detections, run_network
from jpegdeep_torch.presets import PRESETS
from jpegdeep_torch.weights import load_model, read_info
from tests.keras.files import write
from tests.keras.options import assembled
from tests.keras.samples import DATA, WHOLE, WIDTH, inputs, rows, rows_512, unpack
from tests.keras.tables import NETWORKS, SSD512, network
from tests.keras.test_files import DIALECTS


@pytest.mark.parametrize("name", NETWORKS)
def test_small_network_answers_as_keras_does(name, tmp_path):
    done = convert_keras(unpack(name, tmp_path))
    raw = name == "ssd_keras_ssd300"
    assert done.info.model == ("ssd300_vgg16" if raw else name)
    assert done.info.width == WIDTH
    assert done.origin.endswith("whole model" if name in WHOLE else "weights only")
    assert done.info.preset == ("ssd_keras" if raw else "voc" if name.startswith("ssd") else "imagenet")
    assert read_info(done.output) == done.info
    answer = run_network(load_model(done.output), inputs(name), done.info.preparation() if raw else None)
    with np.load(DATA / f"{name}.npz") as expected:
        if name.startswith("ssd"):
            at = rows()
            np.testing.assert_allclose(answer["conf"][:, at], expected["conf"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(answer["loc"][:, at], expected["loc"], rtol=0, atol=1e-3)
            np.testing.assert_allclose(answer["anchors"][at], expected["anchors"], rtol=0, atol=1e-6)
            assert expected["detections"].shape == (1, 200, 6)
            for check in compare_detections(answer["detections"][0], expected["detections"][0]):
                assert check.passed, check
        else:
            np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=0, atol=1e-5)


def test_ssd512_answers_as_keras_does(tmp_path):
    done = convert_keras(unpack(SSD512, tmp_path))
    assert (done.info.model, done.info.width, done.info.preset) == ("ssd512_vgg16", WIDTH, "ssd_keras")
    answer, at = run_network(load_model(done.output), inputs(SSD512), done.info.preparation()), rows_512()
    with np.load(DATA / f"{SSD512}.npz") as expected:
        np.testing.assert_allclose(answer["conf"][:, at], expected["conf"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(answer["loc"][:, at], expected["loc"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(answer["anchors"][at], expected["anchors"], rtol=0, atol=1e-6)
        assert expected["detections"].shape == (1, 200, 6)
        for check in compare_detections(answer["detections"][0], expected["detections"][0]):
            assert check.passed, check


def test_ssd512_of_model_save(tmp_path):
    """As the builder's network is saved whole: its anchors stand in the file."""
    kept = json.loads(lzma.decompress((DATA / "ssd_keras_ssd512_whole.json.xz").read_bytes()))
    done = convert_keras(assembled(SSD512, kept["config"], kept["names"], tmp_path, whole=True))
    assert (done.info.model, done.scales_reason) == ("ssd512_vgg16", "stated in the file's model_config")
    answer, at = run_network(load_model(done.output), inputs(SSD512), done.info.preparation()), rows_512()
    with np.load(DATA / f"{SSD512}.npz") as expected:
        np.testing.assert_allclose(answer["conf"][:, at], expected["conf"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(answer["anchors"][at], expected["anchors"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ssd300_vgg16_dct_y", "resnet50_lcrfa"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_answers_as_keras_does(dialect, name, tmp_path):
    """The weights that Keras wrote, in the forms that its versions and a multi-GPU model give them."""
    net = network(name, WIDTH, classes=3 if name.startswith("ssd") else 10)
    with h5py.File(unpack(name, tmp_path)) as file:
        root = file.get("model_weights", file)
        values: dict[str, dict[str, np.ndarray]] = {}
        root.visititems(
            lambda path, item: (
                values.setdefault(path.split("/")[0], {}).update({path.split("/")[-1].split(":")[0]: item[...]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    write(tmp_path / "a.h5", net, DIALECTS[dialect], values=values)
    answer = run_network(load_model(convert_keras(tmp_path / "a.h5").output), inputs(name))
    with np.load(DATA / f"{name}.npz") as expected:
        if name.startswith("ssd"):
            np.testing.assert_allclose(answer["conf"][:, rows()], expected["conf"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(answer["loc"][:, rows()], expected["loc"], rtol=0, atol=1e-3)
        else:
            np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=0, atol=1e-5)


def test_ssd_keras_and_jpeg_deep_prepare_pixels_differently(tmp_path):
    """Guards the preset: without its mean and channel swap the published SSD's answers are far off."""
    done = convert_keras(unpack("ssd_keras_ssd300", tmp_path))
    answer = run_network(load_model(done.output), inputs("ssd_keras_ssd300"), PRESETS["voc"])
    with np.load(DATA / "ssd_keras_ssd300.npz") as expected:
        assert np.abs(answer["conf"][:, rows()] - expected["conf"]).max() > 1e-3


@pytest.mark.parametrize("name", ["ssd300_vgg16_dct", "ssd300_resnet50_deconv_rfa", "resnet50_lcrfa", "vgg16"])
def test_batch_of_8_equals_eight_batches_of_1(name, tmp_path):
    model = load_model(convert_keras(unpack(name, tmp_path)).output)
    random = np.random.RandomState(3)
    singles = [torch.from_numpy(x[0]).permute(2, 0, 1) for x in inputs(name)]
    batch = [torch.stack([x * float(random.uniform(0.5, 1.5)) for _ in range(8)]) for x in singles]
    with torch.inference_mode():
        together = model(*batch)
        alone = [model(*(x[i : i + 1] for x in batch)) for i in range(8)]
    if name.startswith("ssd"):
        logits, offsets = (torch.cat(parts) for parts in zip(*alone))
        together, together_offsets = together
        # Sums of float32 in another order: off by a fraction of the largest, whatever the size of the single one.
        assert (together_offsets - offsets).abs().max() <= 1e-5 * offsets.abs().max()
    else:
        logits = torch.cat(alone)
    assert logits.std() > 0.1
    torch.testing.assert_close(together.softmax(dim=-1), logits.softmax(dim=-1), rtol=0, atol=1e-5)
