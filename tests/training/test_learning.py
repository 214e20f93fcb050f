"""That it learns: weights handed on, and the figures that evaluation commands give too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from eval.curves import main as curves
from jpegdeep_torch.cli.evaluate import voc as eval_voc
from jpegdeep_torch.cli.train import main as training
from jpegdeep_torch.data.annotations import DatasetIssues
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import ConfigError, TrainingError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.training.initialization import initialize, scale_to_data
from jpegdeep_torch.training.run_folder import read_log
from jpegdeep_torch.weights import load_model, save_weights
from tests.jpeg_samples import jpeg, picture
from tests.training.make_dataset import CLASSES, make_voc
from tests.training.runs import write_config

BLOOD = ("Platelets", "RBC", "WBC")
BY_HEART = """
[model]
scale_to_data = true
[data]
kind = "voc"
train = [{{ root = "{root}", set = "train" }}]
evaluate = [{{ root = "{root}", set = "train" }}]
workers = 0
[augmentation]
enabled = false
[optimizer]
kind = "adamw"
learning_rate = 2e-3
base_batch_size = 8
l2 = 0.0
clip_norm = 10.0
[schedule]
kind = "cosine"
warmup_steps = 10
[run]
batch_size = 8
evaluate_every = 1000
"""


def by_heart(tmp_path, root, *changes: str) -> dict:
    config = write_config(tmp_path, root, BY_HEART)
    training([str(config), "-o", str(tmp_path / "run"), "--set", *changes])
    return read_log(tmp_path / "run", "evaluation")[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("made") / "voc", count=6)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "coefficients"), [("ssd300_vgg16_dct", "native"), ("ssd300_vgg16", "pixels")])
def test_the_logged_map_is_that_of_the_evaluating_command(made, tmp_path, model, coefficients, capsys):
    changes = [
        f"model.name={model}",
        f"data.coefficients={coefficients}",
        "model.width=0.05",
        "run.epochs=12",
        "run.ema=0.5",
    ]
    figures = by_heart(tmp_path, made, *changes)
    best = tmp_path / "run" / "best.safetensors"
    eval_voc([str(best), str(made), "--set", "train", "--json", str(tmp_path / "a.json"), "--workers", "0"])
    result = json.loads((tmp_path / "a.json").read_text())["results"][0]
    assert result["map_area"] == pytest.approx(figures["mAP"], abs=1e-6) and figures["mAP"] > 0
    assert [row["name"] for row in result["classes"]] == list(CLASSES)


def eight_photographs(bccd: Path, root: Path) -> Path:
    """A data set of BCCD's first 8 training photographs that can be known by heart: all classes are in them, and no
    two cells of a class overlap by more than 0.3, of which non-maximum suppression (0.45) might leave out one."""
    chosen = []
    for image in read_voc(bccd, "train", BLOOD, None, DatasetIssues(lenient=True)):
        cells = [torch.from_numpy(image.boxes[image.labels == label]).double() for label in (1, 2, 3)]
        overlaps = torch.cat([box_iou(boxes, boxes).fill_diagonal_(0).flatten() for boxes in cells])
        if len(image.labels) and overlaps.max() < 0.3 and (image.labels == 3).any():
            chosen.append(image.path.stem)
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).symlink_to(bccd / folder)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(chosen[:8]) + "\n")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "coefficients", "steps"), [("ssd300_resnet50_lcrfa", "native", 110), ("ssd300_resnet50", "pixels", 150)]
)
def test_eight_photographs_by_heart(shared, tmp_path, model, coefficients, steps):
    """55 to 115 s on one core.  Without augmentation."""
    root = eight_photographs(shared / "data" / "bccd", tmp_path)
    images = read_voc(root, "train", BLOOD)
    assert len(images) == 8 and {int(label) for image in images for label in image.labels} == {1, 2, 3}
    figures = by_heart(
        tmp_path, root, f"model.name={model}", f"data.coefficients={coefficients}", "model.width=0.125",
        "model.scale_to_data=false",
        "optimizer.learning_rate=8e-3", f"run.epochs={steps}",
    )  # fmt: skip
    assert figures["mAP"] == 1.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """ImageNet's layout: two classes, told apart by colour and brightness."""
    root = tmp_path_factory.mktemp("imagenet")
    for part, count in (("train", 6), ("val", 3)):
        for name, colour in (("dark red", (60, 0, 0)), ("light blue", (110, 130, 190))):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = picture(seed=i) // 4 + np.array(colour, np.uint8)
                (root / part / name / f"{i}.jpg").write_bytes(jpeg(pixels))
    return root


CLASSIFIER = """
[model]
width = 0.06
scale_to_data = true
[data]
kind = "imagenet"
preset = "imagenet"
train = [{{ root = "{root}", set = "train" }}]
evaluate = [{{ root = "{root}", set = "val" }}]
workers = 0
[optimizer]
kind = "adamw"
learning_rate = 0.002
base_batch_size = 12
[schedule]
kind = "cosine"
[run]
batch_size = 12
epochs = 60
evaluate_every = 30
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "coefficients"), [("vgg16_dct", "native"), ("vgg16", "pixels"), ("vgg16_dct", "reencode")]
)
def test_a_classifier_learns_and_starts_a_detector(folders, made, tmp_path, model, coefficients, capsys):
    config = write_config(tmp_path, folders, CLASSIFIER)
    training(
        [str(config), "-o", str(tmp_path / "run"), "--set", f"model.name={model}", f"data.coefficients={coefficients}"]
    )
    rows = read_log(tmp_path / "run", "evaluation")
    assert [row["epoch"] for row in rows] == [30, 60] and rows[-1]["accuracy"] == 1.0
    weights = tmp_path / "run" / "best.safetensors"
    assert load_model(weights).info.class_names == ("dark red", "light blue")
    (tmp_path / "detector").mkdir()
    coefficients = "pixels" if model == "vgg16" else "native"
    line = [
        "--init",
        str(weights),
        "--set",
        f"model.name=ssd300_{model}",
        f"data.coefficients={coefficients}",
        "model.width=0.06",
    ]
    config = write_config(tmp_path / "detector", made, BY_HEART.replace("scale_to_data = true", ""))
    training([str(config), "-o", str(tmp_path / "detector" / "run"), *line, "run.epochs=1"])
    assert "tensors taken from" in capsys.readouterr().out


def test_a_detector_takes_a_classifier_s_dense_layers_subsampled(tmp_path):
    classifier = create_model("vgg16", 7, width=0.125, seed=1)
    save_weights(classifier, tmp_path / "c.safetensors")
    detector = create_model("ssd300_vgg16_dct", 3, width=0.125, seed=2)
    fresh = {key: value.clone() for key, value in detector.state_dict().items()}
    said = initialize(detector, tmp_path / "c.safetensors")
    now = detector.state_dict()
    torch.testing.assert_close(now["trunk.fc6.weight"][1, 2, 1, 2], classifier.fc1.weight[4, 2, 3, 6])
    torch.testing.assert_close(now["trunk.fc7.weight"][3, 2, 0, 0], classifier.fc2.weight[12, 8, 0, 0])
    # The RGB network's block 5 has the DCT network's name and shape but for its first convolution.
    taken = {key for key in now if not torch.equal(now[key], fresh[key])}
    assert "trunk.base.block5.block5_conv2.weight" in taken
    assert not any("luma_norm" in key or "class_heads" in key for key in taken)
    assert "class_heads.0" in said and "block1_conv1_dct_256" in said
    save_weights(create_model("resnet50", 7, width=0.05), tmp_path / "r.safetensors")
    with pytest.raises(ConfigError, match="none of which fit"):
        initialize(detector, tmp_path / "r.safetensors")


def test_scaled_weights_bring_outputs_to_a_deviation_of_1_layer_by_layer():
    def deviations():
        found = []
        convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
        hooks = [m.register_forward_hook(lambda _m, _i, y: found.append(y.std().item())) for m in convolutions]
        model(image)
        for hook in hooks:
            hook.remove()
        return found

    model = create_model("ssd300_vgg16", 3, width=0.05, seed=0)
    image = torch.randn(2, 3, 300, 300, generator=torch.Generator().manual_seed(0)) * 70
    before = deviations()
    scale_to_data(model, lambda: model(image))
    after = deviations()
    assert len(after) == 35 and before[0] > 60 and after[0] == pytest.approx(before[0] / 2, rel=1e-3)
    # But for the heads behind the L2 normalisation, whose scale is 20, all late layers come to 1.
    assert sum(abs(value - 1) < 1e-3 for value in after[-20:]) >= 18 and max(after[-20:]) < 4 < max(before[-20:])


def test_curves_of_runs(made, tmp_path, capsys):
    by_heart(tmp_path, made, "model.name=ssd300_vgg16_dct", "model.width=0.03", "run.epochs=2")
    curves([str(tmp_path / "run"), "-o", str(tmp_path / "curves.png")])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "validation_loss" in capsys.readouterr().out
    with pytest.raises(TrainingError, match="no such file, expected the log"):
        curves([str(tmp_path)])
    with pytest.raises(TrainingError, match=r"curves\.xyz"):
        curves([str(tmp_path / "run"), "-o", str(tmp_path / "curves.xyz")])
