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

from jpegdeep_torch import __version__, public
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.data.classes import COCO_CLASSES, VOC_CLASSES
from jpegdeep_torch.models import MODELS, create_model
from jpegdeep_torch.presets import COEFFICIENTS
from jpegdeep_torch.training.run import train
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg, picture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BCCD = (ROOT / "docs" / "bccd.md").read_text()
COMMANDS = [line.strip() for line in README.splitlines() if re.match(r"    (python|jpegdeep|make|pip) ", line)]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
BY_CI = {"make throughput", "make test-all"}  # .ci/run
SMALL_RUN = ["model.width=0.03", "run.epochs=1", "run.steps_per_epoch=1", "run.batch_size=1", "data.workers=0"]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


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
        assert words[0] in ("python", "jpegdeep"), f"neither run here nor by CI: {line}"
        if words[0] == "jpegdeep":
            words = ["python", "-m", "jpegdeep_torch.cli.main", *words[1:]]
        module, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
        module = module.removesuffix(".py").replace("/", ".")
        if "onnx" in arguments and importlib.util.find_spec("onnxruntime") is None:
            continue  # an extra that `make test` does not install
        if module == "eval.jpeg_stage":
            arguments += ["--limit", "1", "--rounds", "1"]
        if module == "eval.throughput":
            arguments += ["--models", "ssd300_vgg16_dct", "--weights", "ssd300_vgg16_dct=ckpt.safetensors",
                          "--batch-sizes", "1", "--seconds", "0"]  # fmt: skip
        if module == "eval.profile":
            arguments += ["--weights", "ckpt.safetensors", "--batch-size", "1", "--batches", "2", "--workers", "0"]
        if module == "eval.study":
            module += ".__main__"
            arguments += ["--models", "ssd300_vgg16_dct", "--weights", "ckpt.safetensors", "--batch-sizes", "1",
                          "--base-batch", "1", "--workers", "0", "--seconds", "0", "--parts", "matrix"]  # fmt: skip
        if arguments[:1] == ["train"]:
            arguments += ["--set", *SMALL_RUN]
        status = run_command(importlib.import_module(module).main, arguments)
        printed = capsys.readouterr()
        assert status == 0, f"{line}: {printed.err}"
        if module == "convert.keras_to_torch" or arguments[:1] == ["convert"]:
            (place / "ckpt.safetensors").write_bytes(detector)  # the rest wants a detector of VOC's classes

    def small(*args, changes, **options):
        return train(*args, changes=[*changes, *SMALL_RUN], **options)

    monkeypatch.setattr(public, "train", small)
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_files_and_headings_that_documents_link_to_exist(document):
    text = document.read_text()
    lines = re.findall(r"^#+ (.*)", text, re.M)
    headings = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        assert (document.parent / target).exists() if target else heading in headings, target or heading


def test_the_table_of_networks_names_them_all():
    lines = re.findall(r"^\| `(\w+)`( \(512\))? \| (.+?) \|", README, re.M)
    kinds = {"rgb": "RGB pixels", "dct": "Y, CbCr coefficients", "dct_y": "Y coefficients",
             "dct_split": "Y, Cb, Cr coefficients"}  # fmt: skip
    networks = [row for row in lines if row[2] in kinds.values()]
    named = {name: reads for name, _, reads in networks}
    named |= {f"ssd300_{name}": reads for name, _, reads in networks}
    named |= {f"ssd512_{name}": reads for name, larger, reads in networks if larger}
    assert named == {name: kinds[config.inputs] for name, config in MODELS.items()}


def test_the_table_of_coefficients_names_both_ways():
    table = README.partition("| `--coefficients` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.M) == list(COEFFICIENTS)


def test_the_changelog_begins_with_this_version():
    assert re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == __version__


def spread(row: dict, digits: int) -> str:
    return "{median:.{n}f} ({p10:.{n}f} to {p90:.{n}f})".format(**row, n=digits)


def test_measured_speeds_are_what_the_command_wrote():
    written = json.loads((ROOT / "docs" / "throughput.json").read_text())
    stages = {"network alone": "model", "JPEG bytes to boxes": "e2e"}
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:1] == "|"]
    rows = [row for row in table if row[0] in stages]
    assert len(rows) == 6
    for where, batch, nms, *figures in rows:
        cell = {"stage": stages[where], "batch_size": int(batch), "nms": nms == "yes"}
        (ratio,) = [row for row in written["ratios"] if row.items() >= cell.items()]
        speeds = {row["model"]: row["images_per_s"] for row in written["results"] if row.items() >= cell.items()}
        assert figures == [
            spread(speeds["ssd300_vgg16"], 1), spread(speeds["ssd300_vgg16_dct"], 1), spread(ratio, 2)
        ]  # fmt: skip
    versions = written["versions"]
    assert f"torch {versions['torch']}, float32" in README
    (stages_ms,) = [
        row["stages_ms"] for row in written["results"]
        if (row["model"], row["stage"], row["batch_size"], row["nms"]) == ("ssd300_vgg16_dct", "e2e", 8, True)
    ]  # fmt: skip
    text = " ".join(README.split())
    assert f"{stages_ms['network']:.0f} ms in the network, {stages_ms['nms']:.1f} in decoding boxes and NMS" in text
    assert f"takes a worker {stages_ms['read'] + stages_ms['decode'] + stages_ms.get('resize', 0):.1f} ms" in text


def test_accuracies_are_what_the_commands_wrote():
    (found,) = json.loads((ROOT / "docs" / "dct_difference.json").read_text())["results"]
    text = " ".join(README.split())
    assert f"{found['equal']:.2%} of the input coefficients are equal" in text
    assert f"of {found['detections']:,} detections {found['found']:.2%} are found again" in text
    score, box = found["score_difference"], found["box_difference_px"]
    assert "| score differs by | " + " | ".join(f"{value:.2g}" for value in score.values()) + " |" in README
    assert "| box differs by | " + " | ".join(f"{value:.2g} px" for value in box.values()) + " |" in README
    by_dct, by_reencode = (f"{bccd(run)['map_area']:.3f}" for run in ("vgg_dct", "vgg_dct_reencode"))
    assert f"reaches a mAP of {by_dct} on the test set" in text
    assert f"Its mAP is {by_dct} by `native` and {by_reencode} by `reencode`" in text


def bccd(run: str) -> dict:
    (row,) = json.loads((ROOT / "docs" / "bccd" / f"{run}.json").read_text())["results"]
    return row


def test_the_table_of_bccd_is_what_eval_voc_wrote():
    table = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in BCCD.splitlines()]
    rows = [row for row in table if row[0].startswith("bccd_")]
    assert len(rows) == 5
    for recipe, seed, model, *_, whole, platelets, rbc, wbc, _ in rows:
        found = bccd(recipe.removeprefix("bccd_") + ("1" if seed == "1" else ""))
        each = {row["name"]: f"{row['ap_area']:.3f}" for row in found["classes"]}
        assert found["model"] == model and f"{found['map_area']:.3f}" == whole
        assert each == {"Platelets": platelets, "RBC": rbc, "WBC": wbc}
