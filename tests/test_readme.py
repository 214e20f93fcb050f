"""Every command and every piece of Python in the README, run as it stands, on small files under the names it uses."""

from __future__ import annotations

import importlib
import importlib.util
import json
import lzma
import re
import shlex
from pathlib import Path

import pytest

from jpegdeep_torch.cli import run_command
from jpegdeep_torch.data.classes import COCO_CLASSES, VOC_CLASSES
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg, picture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [line.strip() for line in README.splitlines() if re.match(r"    (python|make|pip) ", line)]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
BY_CI = {"make throughput", "make test"}  # .ci/run


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    with lzma.open(ROOT / "tests" / "keras" / "data" / "ssd300_vgg16_dct.h5.xz") as packed:
        (folder / "ckpt.h5").write_bytes(packed.read())
    detector = {"name": "ssd300_vgg16_dct", "width": 0.125, "seed": 0}
    save_weights(create_model(**detector), folder / "ckpt.safetensors", "voc", VOC_CLASSES)
    save_weights(create_model(**detector | {"seed": 1}), folder / "other.safetensors", "voc", VOC_CLASSES)
    save_weights(create_model(num_classes=80, **detector), folder / "coco.safetensors", "coco", COCO_CLASSES)
    classifier = create_model("vgg16_dct", 2, width=0.05, seed=0)
    save_weights(classifier, folder / "classifier.safetensors")
    for name in ("a.jpg", "b.jpg", "photos/c.jpg", "imagenet/val/n01/d.jpg", "imagenet/val/n02/e.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(picture(seed=len(name))))
    _voc(folder / "VOCdevkit" / "VOC2007")
    _coco(folder / "coco")
    return folder


def _voc(root: Path) -> None:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    (root / "JPEGImages" / "000001.jpg").write_bytes(jpeg())
    for image_set in ("trainval", "test"):
        (root / "ImageSets" / "Main" / f"{image_set}.txt").write_text("000001\n")
    (root / "Annotations" / "000001.xml").write_text(
        "<annotation><size><width>160</width><height>120</height><depth>3</depth></size><object><name>cat</name>"
        "<difficult>0</difficult><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>90</xmax><ymax>80</ymax></bndbox></object>"
        "</annotation>"
    )


def _coco(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "val2017" / "1.jpg").write_bytes(jpeg())
    truth = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 160, "height": 120}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(COCO_CLASSES, start=1)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 16, "bbox": [10, 10, 80, 70], "area": 5600, "iscrowd": 0}
        ],
    }
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))


def test_the_readme_has_commands():
    assert set(COMMANDS) >= {"python convert/keras_to_torch.py ckpt.h5"} and PYTHON
    assert {command.split("#")[0].strip() for command in COMMANDS} >= BY_CI
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(command in ci for command in BY_CI)


def test_commands_and_python_run_as_they_stand(place, monkeypatch, capsys):
    """In the README's order, since later ones read what earlier ones write."""
    monkeypatch.chdir(place)
    detector = (place / "ckpt.safetensors").read_bytes()
    for line in COMMANDS:
        words = shlex.split(line, comments=True)
        if " ".join(words) in BY_CI:
            continue
        assert words[0] == "python", f"neither run here nor by CI: {line}"
        module, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
        module = module.removesuffix(".py").replace("/", ".")
        if "onnx" in arguments and importlib.util.find_spec("onnxruntime") is None:
            continue  # an extra that `make test` does not install
        if module == "eval.jpeg_stage":
            arguments = ["--limit", "1", "--rounds", "1"]
        if module == "eval.throughput":
            arguments += ["--models", "ssd300_vgg16_dct", "--weights", "ssd300_vgg16_dct=ckpt.safetensors",
                          "--batch-sizes", "1", "--seconds", "0"]  # fmt: skip
        if module == "eval.study":
            arguments += ["--models", "ssd300_vgg16_dct", "--weights", "ckpt.safetensors", "--batch-sizes", "1",
                          "--base-batch", "1", "--workers", "0", "--seconds", "0", "--parts", "matrix"]  # fmt: skip
        if module == "jpegdeep_torch.training":
            module += ".__main__"
            arguments += ["--set", "model.width=0.03", "run.epochs=1", "run.steps_per_epoch=1", "run.batch_size=1",
                          "data.workers=0"]  # fmt: skip
        status = run_command(importlib.import_module(module).main, arguments)
        printed = capsys.readouterr()
        assert status == 0, f"{line}: {printed.err}"
        if module == "convert.keras_to_torch":
            (place / "ckpt.safetensors").write_bytes(detector)  # the rest wants a detector of VOC's classes
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), {})


def test_files_that_the_readme_links_to_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
