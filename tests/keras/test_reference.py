"""Every network of the reference, converted from its own checkpoint, against the outputs that Keras stored."""

from __future__ import annotations

import pytest

from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.verify import verify_golden
from jpegdeep_torch.models import list_models
from tests.keras.tables import NETWORKS, network

EPOCH_47 = "epoch-47_loss-4.5323_val_loss-6.5883"  # a whole model.save of ssd300_vgg16_dct
CHECKPOINTS = (*NETWORKS, EPOCH_47)
DETECTOR_OUTPUTS = ["conf", "loc", "anchors", "scores", "boxes_px"]


def test_there_are_twenty_networks():
    # ssd_keras's, torchvision's, and those of no Keras project
    others = {*list_models("ssd512_*"), *list_models("*_v15"), *list_models("*mobilenet*")}
    assert sorted(NETWORKS) == sorted([*set(list_models()) - others, "ssd_keras_ssd300"])
    assert len(list_models()) - len(others) == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_reference_checkpoint(name, unpacked, shared, tmp_path):
    """Converts with no argument but its name, in under 20 s, and answers as Keras did."""
    done = convert_keras(unpacked(name))
    model = {"ssd_keras_ssd300": "ssd300_vgg16", EPOCH_47: "ssd300_vgg16_dct"}.get(name, name)
    assert (done.info.model, done.info.width, done.initial, done.left_out) == (model, 1.0, [], [])
    assert done.info.num_classes == (20 if "ssd" in model else 1000)
    assert done.info.preset == {"ssd_keras_ssd300": "ssd_keras"}.get(name, "voc" if "ssd" in model else "imagenet")
    golden = shared / "reference" / "golden" / f"{'ssd300_vgg16_dct' if name == EPOCH_47 else name}.npz"
    checks = verify_golden(done.output, golden, done.raw_pixels)
    assert [check.output for check in checks] == (DETECTOR_OUTPUTS if "ssd" in model else ["probabilities"])
    for check in checks:
        assert check.passed, check
    if "ssd" in model:
        assert checks[3].note.startswith("200 detections")
    done.output.unlink()
    assert done.seconds < 20 * max(1, _load())


def _load() -> float:
    """How many processes wait for each core: a busy machine is given more time."""
    import os

    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 1


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_tables_are_the_references(name, shared):
    """The tests' own tables, from which small checkpoints are made, say what the reference says."""
    import json

    theirs = {row["name"]: row for row in json.loads((shared / "reference" / "layers" / f"{name}.json").read_text())}
    ours = {layer.name: layer for layer in network(name).layers}
    if "input_1" not in theirs:  # the reference's vgg16 starts with a layer that has no name
        del ours["input_1"]
    assert ours.keys() == theirs.keys()
    for key, layer in ours.items():
        row = theirs[key]
        assert layer.kind == row["type"], key
        assert [[f"{key}/{kind}:0", list(shape)] for kind, shape in layer.weights] == row["weights"], key
        assert [source for source in layer.inputs if source in ours] == row["inputs"], key
        for setting, value in layer.settings.items():
            assert setting in ("function", "rate") or row["config"][setting] == value, (key, setting)
