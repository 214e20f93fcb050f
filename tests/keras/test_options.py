"""Every option of ssd_keras's builder, in files of both kinds: carried out, or refused by name."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch

from jpegdeep_torch.cli.convert import FLAGS, main
from jpegdeep_torch.detection import anchor_boxes, decode_boxes
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.original import Settings
from jpegdeep_torch.keras.report import summary
from jpegdeep_torch.keras.verify import compare_detections, run_network
from jpegdeep_torch.weights import load_model
from tests.keras.options import OPTIONS, option_file, stored
from tests.keras.samples import DATA, inputs, rows, unpack
from tests.keras.test_command import NO_KERAS

REFUSED = {"coords corners": "coords corners", "coords minmax": "coords minmax", "aspect_ratios": "aspect_ratios"}
# What a file of weights alone does not say -> (what says it, what the summary says where nothing does).
UNSAID = {
    "swap_channels in another order": (Settings(swap=(1, 2, 0)), "--swap"),
    "another mean": (Settings(mean=(110.5, 127.5, 90)), "--mean"),
    "one mean": (Settings(mean=(127.5,) * 3), "--mean"),
    "clip_boxes": (Settings(clip="corners"), "--clip-boxes"),
    "normalize_coords=False, clip_boxes": (Settings(clip="corners"), "--clip-boxes"),
    "variances": (Settings(variances=(0.1, 0.15, 0.2, 0.25)), "--variances"),
    "steps=None": (Settings(steps="even"), "--steps"),
    "coords corners": (None, "coords"),
    "coords minmax": (None, "coords"),
    "aspect_ratios": (None, "aspect ratios"),
}


def differences(path, option: str) -> dict[str, float]:
    """How far a converted file's answers are from what Keras answered: probabilities, boxes and detections."""
    model, expected, at = load_model(path), stored(option), rows()[::2]
    (pixels,) = inputs("ssd_keras_ssd300")
    answer = run_network(model, [pixels], model.info.preparation())
    boxes = decode_boxes(torch.from_numpy(answer["loc"][0]), anchor_boxes(model.config)).numpy() * 300
    found = compare_detections(answer["detections"][0], expected["detections"])
    return {
        "conf": float(np.abs(answer["conf"][0, at] - expected["conf"]).max()),
        "boxes": float(np.abs(boxes[at] - expected["boxes"]).max()),
        "found": max(check.difference / check.bar for check in found),
    }


def assert_right(path, option: str) -> None:
    off = differences(path, option)
    assert off["conf"] < 1e-4 and off["boxes"] < 0.05 and off["found"] < 1, off


@pytest.mark.parametrize("option", [o for o in OPTIONS if o not in REFUSED and o != "steps=None"])
def test_whole_model(option, tmp_path):
    """All of it stands in the file."""
    done = convert_keras(option_file(option, tmp_path, whole=True))
    assert_right(done.output, option)
    assert [a.argument for a in done.assumed if "WARNING" not in a.text] == ["steps"]  # steps: unsaid
    assert done.info.preset == "ssd_keras"


@pytest.mark.parametrize("option", REFUSED)
def test_whole_model_that_no_network_of_ours_can_be(option, tmp_path):
    with pytest.raises(CheckpointError, match=REFUSED[option]):
        convert_keras(option_file(option, tmp_path, whole=True))
    assert len(list(tmp_path.iterdir())) == 1


def test_steps_are_assumed_and_can_be_said(tmp_path):
    source = option_file("steps=None", tmp_path, whole=True)
    done = convert_keras(source)
    assert differences(done.output, "steps=None")["boxes"] > 1
    assert "--steps even" in summary(done, FLAGS)
    assert_right(convert_keras(source, settings=Settings(steps="even")).output, "steps=None")


@pytest.mark.parametrize("option", ["as published", "swap_channels off", "no mean", "normalize_coords=False"])
def test_weights_only_says_which_layers_there_are(option, tmp_path):
    assert_right(convert_keras(option_file(option, tmp_path, whole=False)).output, option)


def test_weights_only_with_deviations(tmp_path):
    source = option_file("divide_by_stddev", tmp_path, whole=False)
    with pytest.raises(CheckpointError, match=r"divide_by_stddev.*deviation says them"):
        convert_keras(source)
    assert_right(convert_keras(source, settings=Settings(deviation=(58, 57, 57.5))).output, "divide_by_stddev")


@pytest.mark.parametrize("option", UNSAID)
def test_weights_only_that_does_not_say(option, tmp_path):
    """What was assumed stands in the summary, with the flag that changes it; with the flag, the answers are right."""
    source = option_file(option, tmp_path, whole=False)
    settings, told = UNSAID[option]
    done = convert_keras(source)
    assert told in summary(done, FLAGS)
    off = differences(done.output, option)
    assert off["conf"] > 1e-3 or off["boxes"] > 1  # the option matters
    if settings is not None:
        done = convert_keras(source, settings=settings)
        assert told not in summary(done, FLAGS) or told == "--steps"
        assert_right(done.output, option)


def test_scales_of_weights_only(tmp_path):
    """3 classes are neither VOC's nor COCO's: the summary warns and names the flag."""
    source = option_file("scales", tmp_path, whole=False)
    done = convert_keras(source)
    assert "WARNING: 3 classes" in summary(done, FLAGS) and "--scales" in summary(done, FLAGS)
    scales = ",".join(map(str, OPTIONS["scales"]["scales"]))
    assert main([str(source), "--scales", scales]) == 0
    assert_right(done.output, "scales")


def test_flags_of_the_command(tmp_path, capsys):
    source = str(option_file("as published", tmp_path, whole=False))
    flags = ["--mean", "1,2,3", "--stddev", "2,2,2", "--swap", "0,1,2", "--steps", "even", "--clip-boxes"]
    assert main([source, *flags, "--variances", "0.1,0.1,0.3,0.3"]) == 0
    text = capsys.readouterr().out
    assert "3, 2, 1, in place of the preset's" in text and "steps even, clipped: corners" in text
    for flags, expected in (
        (["--mean", "1,2"], "mean is"), (["--mean", "1,2,x"], "separated by commas"), (["--swap", "0,1,1"], "swap is"),
        (["--stddev", "1,0,1"], "deviation is"), (["--variances", "nan,1,1,1"], "variances is"),
        (["--epsilon", "inf"], "epsilon is"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=expected):
            main([source, *flags])


IGNORED = {  # the flags that make the conversion what it was before these options were read
    "swap_channels off": ["--swap", "2,1,0"],
    "swap_channels in another order": ["--swap", "2,1,0"],
    "no mean": ["--mean", "123,117,104"],
    "another mean": ["--mean", "123,117,104"],
    "one mean": ["--mean", "123,117,104"],
    "divide_by_stddev": ["--stddev", "1,1,1"],
    "swap_channels off, divide_by_stddev": ["--swap", "2,1,0"],
    "clip_boxes": ["--clip-boxes", "none"],
    "normalize_coords=False, clip_boxes": ["--clip-boxes", "none"],
    "scales": ["--scales", "voc"],
    "variances": ["--variances", "0.1,0.1,0.2,0.2"],
}


@pytest.mark.parametrize("option", IGNORED)
def test_stored_outputs_tell_a_conversion_that_ignores_an_option(option, tmp_path, capsys):
    source = str(option_file(option, tmp_path, whole=True))
    golden = str(tmp_path / "golden.npz")
    np.savez(golden, input_0=inputs("ssd_keras_ssd300")[0], detections=stored(option)["detections"][None])
    assert main([source, "--verify", golden]) == 0
    assert "FAIL" not in capsys.readouterr().out
    assert main([source, *IGNORED[option], "--verify", golden]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("whole", [True, False])
def test_raw_offsets_of_a_network_with_other_variances(whole, tmp_path, capsys):
    """The variances went into the box heads, so that our offsets are in other units than the original's."""
    source = str(option_file("variances", tmp_path, whole))
    usual = load_model(convert_keras(unpack("ssd_keras_ssd300", tmp_path)).output)  # the same weights
    (pixels,) = inputs("ssd_keras_ssd300")
    offsets = run_network(usual, [pixels], usual.info.preparation())["loc"]
    at = rows()
    with np.load(DATA / "ssd_keras_ssd300.npz") as stored:  # which are Keras's own
        np.testing.assert_allclose(offsets[:, at], stored["loc"], rtol=0, atol=1e-3)
    golden = str(tmp_path / "golden.npz")
    said = [] if whole else ["--variances", "0.1,0.15,0.2,0.25"]
    for off, status in ((0, 0), (0.1, 1)):
        np.savez(golden, input_0=pixels, loc=offsets + np.float32(off))
        assert main([source, *said, "--verify", golden]) == status
    assert main([source, "--variances", "0.1,0.1,0.2,0.25", "--verify", golden]) == 1
    np.savez(golden, input_0=pixels, loc=offsets[:, at])
    with pytest.raises(CheckpointError, match="loc: shape"):
        main([source, *said, "--verify", golden])


@pytest.mark.skipif(NO_KERAS, reason="TensorFlow with Keras is not installed")
@pytest.mark.parametrize("option", [*IGNORED, "normalize_coords=False"])
def test_the_twin_tells_a_conversion_that_ignores_an_option(option, tmp_path, capsys):
    """From a JPEG to boxes, with the preset and the anchors that were saved."""
    source = str(option_file(option, tmp_path, whole=True))
    assert main([source, "--verify"]) == 0
    assert capsys.readouterr().out.count(" pass") == 4
    if option in IGNORED:
        assert main([source, *IGNORED[option], "--verify"]) == 1


def test_bubbliiiings_files_are_told_apart(tmp_path):
    """The same names and shapes, but other anchors and means: no identity_layer, heads flattened one by one."""
    path = tmp_path / "a.h5"
    with h5py.File(unpack("ssd_keras_ssd300", tmp_path)) as weights, h5py.File(path, "w") as file:
        names = ["input_1"]
        for name in weights:
            if len(weights[name]):
                weights.copy(name, file)
                names += [name, f"{name}_flat"] if "_mbox_" in name else [name]
        for name in names:
            file.require_group(name)
        file.attrs["layer_names"] = names
    done = convert_keras(path)
    assert done.info.preset == "voc" and "bubbliiiing" in summary(done, FLAGS)
    assert_right(done.output, "bubbliiiing")


def test_ssd7_is_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("conv1", "bn1", "classes4", "boxes4"):
            file[f"{name}/{name}/bias:0"] = np.zeros(8, np.float32)
    with pytest.raises(CheckpointError, match="SSD7"):
        convert_keras(tmp_path / "a.h5")


def edited(path, edit) -> None:
    """Changes the settings of every layer in a whole model's configuration."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            edit(layer["class_name"], layer["config"])
        file.attrs["model_config"] = json.dumps(config)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**400, "0.1", None, [0.1], {}])
@pytest.mark.parametrize("key", ["this_scale", "next_scale", "variances", "mean"])
def test_values_of_the_configuration_are_checked(key, value, tmp_path):
    """What a saved file could not hold is refused; a NaN scale once made a file that did not load."""

    def edit(kind, settings):
        if key == "mean" and settings["name"] == "input_mean_normalization":
            settings["function"] = ["code", None, [[1.0, value, 2.0]]]
        elif kind == "AnchorBoxes" and key != "mean":
            settings[key] = [0.1, value, 0.2, 0.2] if key == "variances" else value

    source = option_file("as published", tmp_path, whole=True)
    edited(source, edit)
    if value == "0.1" or (key == "mean" and value == -1):  # numbers after all
        assert load_model(convert_keras(source).output).info.preset == "ssd_keras"
        return
    with pytest.raises(CheckpointError, match=str(source)):
        convert_keras(source)
    assert list(tmp_path.iterdir()) == [source]


def test_functions_that_no_file_says(tmp_path):
    source = option_file("as published", tmp_path, whole=True)

    def edit(kind, settings):
        if settings["name"] == "input_channel_swap":
            settings["function"][2] = [[2, 1, 1]]

    edited(source, edit)
    with pytest.raises(CheckpointError, match="swap_channels"):
        convert_keras(source)
