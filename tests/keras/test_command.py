"""`convert/keras_to_torch.py` and its proofs."""

from __future__ import annotations

import importlib.util
import re
import shutil

import h5py
import numpy as np
import pytest

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.keras.twin import anchor_boxes
from jpegdeep_torch.keras.verify import compare, compare_detections
from jpegdeep_torch.utils.files import sha256_of
from jpegdeep_torch.weights import read_info
from tests.keras.samples import DATA, inputs, unpack

NO_KERAS = not (importlib.util.find_spec("tensorflow") and importlib.util.find_spec("tf_keras"))


@pytest.fixture
def golden(tmp_path):
    """golden(NAME, **changes) -> a file of stored inputs and outputs, as the reference has them."""

    def make(name: str, **changes: np.ndarray):
        with np.load(DATA / f"{name}.npz") as file:
            kept = {key: file[key] for key in file if key in ("probabilities", "detections")}
        given = {f"input_{i}": x for i, x in enumerate(inputs(name))}
        np.savez(tmp_path / "golden.npz", **(given | kept | changes))
        return str(tmp_path / "golden.npz")

    return make


def test_summary_says_all_there_is_to_know(tmp_path, capsys):
    source = unpack("ssd300_vgg16_dct", tmp_path)
    (tmp_path / "names.txt").write_text("RBC\nWBC\n\nPlatelets\n")
    assert main([str(source), "-o", str(tmp_path / "out.st"), "--class-names", str(tmp_path / "names.txt")]) == 0
    text = capsys.readouterr().out
    for part in (
        "ssd300_vgg16_dct, 0.03125 times its width", "classes:        3\n", "0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05",
        "model_config", "voc (VOC's anchor scales)", "RBC, WBC, Platelets", "whole model", str(tmp_path / "out.st"),
        sha256_of(source), sha256_of(tmp_path / "out.st"),
    ):  # fmt: skip
        assert part in text
    assert re.search(r"time: +\d+\.\d s", text)
    assert read_info(tmp_path / "out.st").source_sha256 == sha256_of(source)


def test_list_and_dry_run_write_nothing(tmp_path, capsys):
    source = unpack("resnet50_lcrfa", tmp_path)
    assert main([str(source), "--list"]) == 0
    assert "res5c_branch2c: " in capsys.readouterr().out
    assert main([str(source), "--dry-run"]) == 0
    assert f"would write:    {tmp_path / 'resnet50_lcrfa.safetensors'}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("name", ["resnet50_lcrfa", "ssd300_vgg16_dct_y", "ssd_keras_ssd300"])
def test_verify_against_stored_outputs(name, tmp_path, capsys, golden):
    source = str(unpack(name, tmp_path))
    assert main([source, "--verify", golden(name)]) == 0
    lines = re.findall(r"verify: +(\w+): \S+ \(bar \S+\) pass", capsys.readouterr().out)
    assert lines == (["scores", "boxes_px"] if name.startswith("ssd") else ["probabilities"])


def test_verify_fails_where_an_answer_differs(tmp_path, capsys, golden):
    source = str(unpack("resnet50_lcrfa", tmp_path))
    with np.load(DATA / "resnet50_lcrfa.npz") as file:
        other = file["probabilities"] + np.float32(2e-4) * (np.arange(10) == 3)
    assert main([source, "--verify", golden("resnet50_lcrfa", probabilities=other)]) == 1
    assert re.search(r"probabilities: 2.0\de-04 \(bar 0.0001\) FAIL", capsys.readouterr().out)


def test_verify_refuses_what_it_cannot_compare(tmp_path, golden):
    source = str(unpack("resnet50_lcrfa", tmp_path))
    with pytest.raises(CheckpointError, match="takes 2"):
        main([source, "--verify", golden("resnet50_lcrfa", input_2=np.zeros(3))])
    with pytest.raises(CheckpointError, match="channels"):
        main([source, "--verify", golden("resnet50_lcrfa", input_0=np.zeros((1, 28, 28, 3), np.float32))])
    with pytest.raises(CheckpointError, match=r"not a readable \.npz"):
        main([source, "--verify", source])
    with pytest.raises(CheckpointError, match="shape"):
        main([source, "--verify", golden("resnet50_lcrfa", probabilities=np.zeros((1, 7)))])
    weights_only = str(unpack("resnet50", tmp_path))
    with pytest.raises(CheckpointError, match="does not describe its network"):
        main([weights_only, "--verify"])
    for arguments in (["--dry-run"], ["--to", "ssd300_resnet50"]):
        with pytest.raises(ModelError, match="--verify"):
            main([weights_only, "--verify", "x.npz", *arguments])


@pytest.mark.skipif(not NO_KERAS, reason="TensorFlow with Keras is installed")
def test_twin_without_tensorflow_is_one_line(tmp_path, capsys):
    source = str(unpack("resnet50_lcrfa", tmp_path))
    assert run_command(main, [source, "--verify"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "needs TensorFlow with Keras" in message and "GOLDEN.npz" in message


@pytest.mark.skipif(NO_KERAS, reason="TensorFlow with Keras is not installed")
@pytest.mark.parametrize("name", ["ssd300_vgg16_dct", "ssd300_resnet50_deconv_rfa", "resnet50_lcrfa"])
def test_twin_from_the_files_own_configuration(name, tmp_path, capsys):
    source = unpack(name, tmp_path)
    assert main([str(source), "--verify"]) == 0
    assert capsys.readouterr().out.count(" pass") == (4 if name.startswith("ssd") else 1)
    wrong = tmp_path / "wrong.h5"
    shutil.copy(source, wrong)
    with h5py.File(wrong, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"relu"', '"linear"')
    assert main([str(wrong), "--verify"]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path, capsys):
    source = str(unpack("resnet50_lcrfa", tmp_path))
    for arguments, expected in (
        ([source, "--scales", "1,2,x"], "expected voc, coco or seven numbers"),
        ([source, "--class-names", "nowhere.txt"], "nowhere.txt"),
        ([source, "--to", "ssd301"], "unknown model 'ssd301'"),
        ([source, "--scales", "voc"], "a classifier has no anchor scales"),
    ):
        assert run_command(main, arguments) == 2
        message = capsys.readouterr().err
        assert expected in message and message.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main([source, "--preset", "unknown"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_twins_anchors_are_the_papers():
    settings = {
        "img_height": 300, "img_width": 300, "this_scale": 0.2, "next_scale": 0.37, "aspect_ratios": [1.0, 2.0],
        "variances": [0.1, 0.1, 0.2, 0.2],
    }  # fmt: skip
    boxes = anchor_boxes(settings, 1, 19, 19)
    assert boxes.shape == (19, 19, 3, 8)
    np.testing.assert_allclose(boxes[2, 5, 0], [88 / 300, 40 / 300, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(boxes[0, 0, 1, 2:4], [np.sqrt(0.2 * 0.37)] * 2, atol=1e-6)
    np.testing.assert_allclose(boxes[0, 0, 2, 2:4], [0.2 * np.sqrt(2), 0.2 / np.sqrt(2)], atol=1e-6)


def test_bars_grow_with_what_is_compared():
    """float32 holds 7 digits: bars are for logits up to 50, and 6e-6 of the largest offset where that is more."""

    def passes(name: str, off: float, size: float = 1.0, **more: np.ndarray) -> bool:
        theirs = {name: np.array([[size, 0.0]])}
        (check,) = compare({name: theirs[name] + off} | more, theirs)
        return check.passed

    assert passes("conf", 9e-5) and not passes("conf", 1.1e-4)
    assert not passes("conf", 1.1e-4, largest_logit=np.array(50.0))
    assert passes("conf", 1.9e-4, largest_logit=np.array(100.0))
    assert not passes("conf", 2.1e-4, largest_logit=np.array(100.0))
    assert passes("loc", 9e-4, 100.0) and not passes("loc", 1.1e-3, 100.0)
    assert passes("loc", 5.9e-3, 1000.0) and not passes("loc", 6.1e-3, 1000.0)
    assert passes("boxes", 0.049, 300.0) and not passes("boxes", 0.051, 300.0) and passes("boxes", 0.09, 2000.0)


def test_detections_are_compared_with_their_order():
    rows = np.array([[1, 0.9, 0, 0, 10, 10], [2, 0.5, 5, 5, 9, 9], [2, 0.5, 50, 5, 90, 9], [1, 0.1, 1, 1, 2, 2]])
    swapped = rows[[0, 2, 1, 3]]
    assert all(check.passed for check in compare_detections(rows, rows))
    assert all(check.passed for check in compare_detections(swapped, rows))  # equal scores
    for changed in (
        rows[:3],
        rows[[1, 0, 2, 3]] + [[0, 0, 0, 0, 0, 0.1]],
        rows + [[0, 2e-4, 0, 0, 0, 0]],
        rows + [1, 0, 0, 0, 0, 0],
    ):
        assert not all(check.passed for check in compare_detections(changed, rows))
