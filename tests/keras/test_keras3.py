"""Files as Keras 3 writes them, against the outputs that are stored for the same weights; and what is no such file."""

from __future__ import annotations

import json
import lzma
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main
from jpegdeep_torch.errors import CheckpointError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.report import listing
from jpegdeep_torch.keras.verify import run_network
from jpegdeep_torch.weights import load_model
from tests.keras.samples import DATA, inputs, rows, unpack

NAMES = ("ssd300_vgg16_dct_y", "resnet50_lcrfa_y")
ENDINGS = (".weights.h5", ".keras", ".h5")


def unpack3(name: str, ending: str, folder: Path) -> Path:
    path = folder / f"{name}{ending}"
    path.write_bytes(lzma.decompress((DATA / f"{name}_keras3{ending}.xz").read_bytes()))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", NAMES)
def test_answers_as_keras(name, ending, tmp_path):
    source = unpack3(name, ending, tmp_path)
    done = convert_keras(source, tmp_path / "out.safetensors")
    assert (done.info.model, done.initial, done.left_out) == (name, [], [])
    assert "Keras 3" in done.origin and ("whole model" in done.origin) == (ending != ".weights.h5")
    assert f"nearest network: {name}" in listing(source)
    answer = run_network(load_model(done.output), inputs(name))
    with np.load(DATA / f"{name}.npz") as expected:
        if name.startswith("ssd"):
            np.testing.assert_allclose(answer["conf"][:, rows()], expected["conf"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(answer["loc"][:, rows()], expected["loc"], rtol=0, atol=1e-3)
            if ending != ".weights.h5":
                assert done.scales_reason == "stated in the file's model_config"
        else:
            np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=0, atol=1e-5)
    theirs = load_file(convert_keras(unpack(name, tmp_path), tmp_path / "keras2.safetensors").output)
    ours = load_file(done.output)
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)


def refused(path: Path, expected: str) -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(CheckpointError, match=expected) as caught:
        convert_keras(path)
    assert str(path) in str(caught.value) and sorted(path.parent.rglob("*")) == before


def test_names_that_are_not_in_the_file(tmp_path):
    """Keras 3's first versions numbered the layers of a .weights.h5 by their kind alone."""
    path = unpack3("resnet50_lcrfa_y", ".weights.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        for layer in file["layers"]:
            file["layers"][layer]["vars"].attrs.pop("name", None)
    refused(path, "its layer's name is not in the file")


def test_damaged_archives(tmp_path):
    path = unpack3("resnet50_lcrfa_y", ".keras", tmp_path)
    data = path.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        refused(path, "damaged archive")
    random = np.random.RandomState(0)
    for _ in range(40):
        changed = bytearray(data)
        for place in random.randint(0, len(data), 4):
            changed[place] ^= 1 << random.randint(8)
        path.write_bytes(changed)
        assert run_command(main, [str(path), "-o", str(tmp_path / "out.st")]) in (0, 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({}))
    refused(path, r"without model\.weights\.h5")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(100 << 20))
    refused(path, "which no weights do")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"nothing")
        archive.writestr("config.json", "[" * 100_000)
    refused(path, "holds no JSON object")


def test_other_things_are_named_with_what_to_do(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"x")
    refused(folder, r"SavedModel.*save_weights\(\"FILE\.h5\"\)")
    shutil.rmtree(folder)
    (tmp_path / "ckpt.index").write_bytes(b"x")
    for name in ("ckpt", "ckpt.index", "ckpt.data-00000-of-00001"):
        refused(tmp_path / name, "TensorFlow checkpoint")
