"""torchvision's networks, built here with seeded weights: converted, they answer as torchvision's own code does."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.models import detection

from jpegdeep_torch.cli.convert import main
from jpegdeep_torch.detection import anchor_boxes
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.inference.classifier import Classifier
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.jpeg.pixels import stretch
from jpegdeep_torch.keras.report import summary
from jpegdeep_torch.models.config import ANCHOR_SCALES, BoxRules
from jpegdeep_torch.presets import PRESETS, prepare_image
from jpegdeep_torch.torch_checkpoints import convert_torch
from jpegdeep_torch.torch_checkpoints.verify import verify_torchvision
from jpegdeep_torch.weights import load_model, read_info, save_tensors

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")


def build(name: str, **options) -> nn.Module:
    """torchvision's network with seeded weights that give answers of some units, and norms that matter."""
    torch.manual_seed(0)
    options = {"weights": None} | ({"weights_backbone": None} if name.startswith("ssd") else {}) | options
    model = getattr(detection if name.startswith("ssd") else torchvision.models, name)(**options)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if getattr(module, "bias", None) is not None and isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.uniform_(module.bias, -0.1, 0.1)
    if name == "mobilenet_v2":
        nn.init.normal_(model.classifier[1].weight, std=0.3)  # torchvision's own fresh ones are 0.01
    return model.eval()


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: smooth colours and some noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (height // 25, width // 25, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + random.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)


def tame_heads(model: nn.Module) -> None:
    """Heads that answer in units: scores spread, offsets small, as a trained detector's."""
    pixels = torch.from_numpy(photo(300, 300)).permute(2, 0, 1)[None].float() / 255
    images, _ = model.transform([pixels[0]])
    maps = list(model.backbone(images.tensors).values())
    with torch.no_grad():
        for head, size in ((model.head.classification_head, 1.5), (model.head.regression_head, 0.7)):
            for conv, x in zip(head.module_list, maps):
                conv.weight /= conv(x).std() / size


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "mobilenet_v2"])
def test_classifier(name, tmp_path):
    theirs = build(name)
    if name == "mobilenet_v2":  # whose norms leave little of the pixels
        theirs.classifier[1].weight.data *= 20
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    done = convert_torch(tmp_path / "a.pth")
    (tmp_path / "a.pth").unlink()
    assert done.info.model == {"resnet50": "resnet50_v15"}.get(name, name)
    assert (done.info.num_classes, done.info.preset, done.initial, done.left_out) == (
        1000,
        "torchvision_imagenet",
        [],
        [],
    )
    model = load_model(done.output)
    done.output.unlink()
    pixels = torch.from_numpy(photo(224, 224)).permute(2, 0, 1)[None]
    transform = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = theirs(transform(pixels.float() / 255))
        answer = model(prepare_image(pixels, model.info.preparation()))
    assert expected.std() > 0.1
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max()) / 50))


@pytest.fixture(scope="module")
def ssd(tmp_path_factory):
    """(torchvision's detector, the conversion of its file)."""
    model = build("ssd300_vgg16")
    tame_heads(model)
    path = tmp_path_factory.mktemp("ssd") / "ssd300.pth"
    torch.save(model.state_dict(), path)
    yield model, convert_torch(path)
    for made in path.parent.iterdir():
        made.unlink()


def test_detector_is_told(ssd):
    _, done = ssd
    assert (done.info.model, done.info.num_classes, done.info.preset) == ("ssd300_vgg16", 90, "torchvision_ssd")
    assert (done.initial, done.left_out) == ([], [])
    theirs = detection.SSD300_VGG16_Weights.COCO_V1.meta["categories"][1:]
    ours = read_info(done.output).class_names
    assert len(ours) == 90
    assert all(a == b or (b == "N/A" and a.startswith("unused")) for a, b in zip(ours, theirs))
    assert "torchvision's ssd300_vgg16" in summary(done)


def test_anchors(ssd):
    model, done = ssd
    images = torchvision.models.detection.image_list.ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    maps = [torch.zeros(1, 1, cells, cells) for cells in (38, 19, 10, 5, 3, 1)]
    (corners,) = model.anchor_generator(images, maps)
    ours = anchor_boxes(load_model(done.output).config) * 300
    expected = torchvision.ops.box_convert(corners, "xyxy", "cxcywh")
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)
    assert (expected[:, 2:] > 299.9).any()  # some are cut


@pytest.mark.parametrize("size", [(300, 300), (640, 427), (200, 333)])
def test_boxes_of_the_whole_detector(size, ssd):
    """From a JPEG: torchvision's own transform, network and NMS beside ours."""
    model, done = ssd
    file = io.BytesIO()
    Image.fromarray(photo(*size)).save(file, "JPEG", quality=95)
    # Where the photo has to be resized, ours rounds to whole pixel values: torchvision is given these.
    pixels = stretch(np.array(Image.open(io.BytesIO(file.getvalue()))), 300)
    with torch.inference_mode():
        (expected,) = model([torch.from_numpy(pixels).permute(2, 0, 1).float() / 255])
    scale = torch.tensor(size).repeat(2) / 300
    (found,) = Detector.load(done.output).predict([file.getvalue()])
    assert len(expected["scores"]) == 200
    assert len(found["scores"]) == 200
    free = torch.ones(200, dtype=torch.bool)
    for label, score, box in zip(expected["labels"], expected["scores"], expected["boxes"] * scale):
        near = free & (found["labels"] == label) & ((found["scores"] - score).abs() < 1e-4)
        off = torch.where(near, (found["boxes"] - box).abs().amax(dim=1), 9e9)
        assert off.min() < 0.1
        free[off.argmin()] = False


@pytest.mark.slow
def test_verify_tells_a_file_that_answers_otherwise(ssd, tmp_path, capsys):
    """The saved file against torchvision itself; every number of it that matters makes the command fail."""
    source, output = str(ssd[1].source), tmp_path / "out.safetensors"
    assert main([source, "-o", str(output), "--verify"]) == 0
    said = re.findall(r"verify: +(\w+): \S+ \(bar \S+\) pass", capsys.readouterr().out)
    assert said == ["conf", "loc", "anchors", "scores", "boxes_px"]
    right = Detector.load(output)
    tensors, info = load_file(output), read_info(output)
    for wrong, failing in (
        (dataclasses.replace(info, preset="voc"), "conf"),
        (dataclasses.replace(info, anchor_scales=ANCHOR_SCALES["voc"]), "anchors"),
        (dataclasses.replace(info, box_rules=BoxRules(cut_before_nms=True)), "anchors"),
        (dataclasses.replace(info, box_rules=BoxRules(clip="sizes")), "boxes_px"),
    ):
        save_tensors(tensors, output, wrong)
        checks = verify_torchvision(Detector.load(output), source)
        assert failing in [check.output for check in checks if not check.passed], wrong
    tensors["box_heads.0.bias"] += 0.01
    save_tensors(tensors, output, info)
    assert not all(check.passed for check in verify_torchvision(Detector.load(output), source))
    assert all(check.passed for check in verify_torchvision(right, source))
    output.unlink()
    for arguments, expected in (
        (["--verify", "golden.npz"], "compared with torchvision itself"),
        (["--verify", "--dry-run"], "--dry-run does not write"),
        (["--verify", "--to", "ssd300_vgg16"], "no original"),
    ):
        with pytest.raises(ModelError, match=expected):
            main([source, *arguments])


def test_verify_of_a_classifier(tmp_path, capsys):
    path = str(tmp_path / "a.pth")
    theirs = build("mobilenet_v2", num_classes=7)
    for module in theirs.modules():  # at their seeded scale the norms leave nothing of the pixels
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data *= 2
    torch.save(theirs.state_dict(), path)
    assert main([path, "--verify"]) == 0
    said = capsys.readouterr().out
    assert "logits" in said and "probabilities" in said
    # Caffe's means are not ImageNet's; the colours' order is carried out in the first convolution.
    assert main([path, "--preset", "imagenet", "--verify"]) == 1
    file, info = tmp_path / "a.safetensors", read_info(tmp_path / "a.safetensors")
    exact = tuple(255 * mean for mean in (0.406, 0.456, 0.485))
    save_tensors(load_file(file), file, dataclasses.replace(info, mean=exact))
    assert all(check.passed for check in verify_torchvision(Classifier.load(file), path))
    headless = {k: v for k, v in theirs.state_dict().items() if not k.startswith("classifier.")}
    torch.save(headless, path)
    with pytest.raises(ModelError, match="no heads"):
        main([path, "--verify"])


def test_rest_of_torchvisions_forms(tmp_path, ssd):
    """Wrapped by a training script, from several GPUs, in half precision, in the format before PyTorch 1.6."""
    model, done = ssd
    state = {f"module.{key}": value.half() for key, value in model.state_dict().items()}
    path = tmp_path / "a.pth"
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=False)
    again = convert_torch(path, dry_run=True)
    assert again.info.model == done.info.model and again.parameters == done.parameters
    small = build("ssd300_vgg16", num_classes=4)
    torch.save({"model": small.state_dict()}, path)
    assert convert_torch(path, dry_run=True).info.num_classes == 3
    with pytest.raises(ModelError, match="holds 3 classes, asked for 20"):
        convert_torch(path, num_classes=20, dry_run=True)


def test_the_vgg_that_ssd_starts_from(tmp_path):
    """Its dense layers are NaN on purpose, and its pixels are not divided."""
    theirs = build("vgg16")
    for key, value in theirs.state_dict().items():
        if key.startswith("classifier"):
            value.fill_(float("nan"))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    done = convert_torch(tmp_path / "a.pth", to="ssd300_vgg16", num_classes=3)
    (tmp_path / "a.pth").unlink()
    assert {key.split(".")[0] for key in done.initial} == {"trunk", "source_norm", "extras", "class_heads", "box_heads"}
    assert {key for key in done.initial if key.startswith("trunk")} == {
        f"trunk.{layer}.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")
    }
    model = load_model(done.output)
    done.output.unlink()
    pixels = torch.from_numpy(photo(224, 224)).permute(2, 0, 1)[None]
    mean, deviation = (0.48235, 0.45882, 0.40784), (1 / 255,) * 3
    with torch.inference_mode():
        expected = theirs.features[:5](torchvision.transforms.Normalize(mean, deviation)(pixels.float() / 255))
        x = prepare_image(pixels, model.info.preparation())
        for name in ("block1_conv1", "block1_conv2"):
            x = torch.relu(model.trunk.base.stem[name](x))
        x = nn.functional.max_pool2d(x, 2)
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-3)


def test_dense_layers_start_fc6_and_fc7(tmp_path):
    theirs = build("vgg16")
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    done = convert_torch(tmp_path / "a.pth", to="ssd300_vgg16")
    (tmp_path / "a.pth").unlink()
    assert {key.split(".")[0] for key in done.initial} == {"source_norm", "extras", "class_heads", "box_heads"}
    assert done.left_out == ["predictions.weight", "predictions.bias"]
    model = load_model(done.output)
    done.output.unlink()
    fc1 = theirs.classifier[0].weight.view(4096, 512, 7, 7)
    assert torch.equal(model.trunk.fc6.weight, fc1[::4, :, ::3, ::3])
    assert torch.equal(model.trunk.fc7.weight[:, :, 0, 0], theirs.classifier[3].weight[::4, ::4])


@pytest.mark.parametrize(("to", "first"), [("ssd300_mobilenet_v2", 0), ("ssd300_mobilenet_v2_dct", 7)])
def test_mobilenet_starts_detectors(to, first, tmp_path):
    """Every layer that both have, and the mean that its pixels lost."""
    theirs = build("mobilenet_v2")
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    done = convert_torch(tmp_path / "a.pth", to=to, num_classes=3)
    assert done.info.mean == (None if first else PRESETS["torchvision_imagenet"].mean)
    model = load_model(done.output)
    state, kept = theirs.state_dict(), [k for k in model.state_dict() if k.startswith("features")]
    assert {int(key.split(".")[1]) for key in kept} == set(range(first, 18))
    for key in kept:
        if key != "features.0.0.weight":
            assert torch.equal(model.state_dict()[key], state[key]), key
    assert {key.split(".")[0] for key in done.initial} <= {"stem", "extras", "class_heads", "box_heads"}
    assert {key.split(".")[0] for key in done.left_out} == {"features", "classifier"}


def test_resnet_starts_its_own_detector_and_no_other(tmp_path):
    """Strides sit in the 3x3: the same shapes elsewhere would be another network."""
    torch.save(build("resnet50").state_dict(), tmp_path / "a.pth")
    done = convert_torch(tmp_path / "a.pth", to="ssd300_resnet50_v15", num_classes=3, dry_run=True)
    assert {key.split(".")[0] for key in done.initial} == {"source_norm", "extras", "class_heads", "box_heads"}
    with pytest.raises(ModelError, match="stride"):
        convert_torch(tmp_path / "a.pth", to="ssd300_resnet50", dry_run=True)


class _Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_files_that_are_damaged_or_mean_ill(tmp_path, ssd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"

    def refused(expected: str) -> None:
        with pytest.raises(CheckpointError, match=expected) as caught:
            convert_torch(path)
        assert str(path) in str(caught.value) and not (tmp_path / "a.safetensors").exists()

    refused("no such file")
    for data in (b"", b"text", b"PK\x03\x04" + bytes(100), pickle.dumps(_Evil()), pickle.dumps({"a": 1})):
        path.write_bytes(data)
        refused("cannot be read as tensors alone")
    torch.save({"x": _Evil()}, path)
    refused("cannot be read as tensors alone")
    assert not (tmp_path / "evil").exists()
    torch.save({"a": 1}, path)
    refused("holds no tensors")
    torch.save([torch.zeros(3)], path)
    refused("expected tensors by name")
    torch.save({"evil\x1b[2J": torch.zeros(3)}, path)
    refused(r"evil\\x1b")
    state = dict(ssd[0].state_dict())
    state["backbone.extra.0.7.1.weight"] = torch.zeros(1).expand(1024, 512, 3, 3)
    state["backbone.extra.1.0.bias"] = torch.full((256,), float("nan"))
    state["backbone.extra.1.2.bias"] = torch.zeros(512, dtype=torch.int64)
    state["other"] = torch.zeros(3)
    del state["backbone.extra.2.0.weight"]
    torch.save(state, path)
    refused("5 differences")
    with pytest.raises(CheckpointError) as caught:
        convert_torch(path)
    for part in ("holds fewer", "not finite", "int64", "unexpected: other", "missing: backbone.extra.2.0.weight"):
        assert part in str(caught.value)


def test_command(tmp_path, ssd, capsys):
    source = next(path for path in ssd[1].source.parent.iterdir() if path.suffix == ".pth")
    assert main([str(source), "--list"]) == 0
    assert "backbone.extra.0.7.1.weight: 1024x512x3x3" in capsys.readouterr().out
    output = tmp_path / "out.safetensors"
    assert main([str(source), "-o", str(output), "--to", "ssd300_vgg16", "--num-classes", "3"]) == 0
    text = capsys.readouterr().out
    assert "torchvision's ssd300_vgg16" in text and "initial values" in text
    assert read_info(output).num_classes == 3
    with pytest.raises(ModelError, match="--scales: is for Keras files"):
        main([str(source), "--scales", "voc"])
    command = [sys.executable, REPOSITORY / "convert" / "torch_to_torch.py", tmp_path / "nothing.pth"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and "no such file" in run.stderr
