"""eval.voc, eval.coco, eval.imagenet and eval.compare on a small data set, and their reports in a browser."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jpegdeep_torch.cli.main import COMMANDS, main
from jpegdeep_torch.data.classes import COCO_CATEGORY_IDS
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.evaluation.report import CaptionedImage, write_report
from jpegdeep_torch.evaluation.svg import bars
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.browser import open_browser
from tests.coco_export import export_coco
from tests.shapes import NAMES, ROOT, run


@pytest.fixture(scope="module")
def voc_run(dataset, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    done = run("voc", weights(), dataset, "--json", folder / "a.json", "--report", folder / "report",
               "--submission", folder / "submission")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, folder


def test_voc(voc_run):
    done, folder = voc_run
    assert re.search(r"^mAP +0\.\d{4} +0\.\d{4} +0\.\d{4}$", done.stdout, re.MULTILINE), done.stdout
    record = json.loads((folder / "a.json").read_text())
    assert record["command"] == "eval.voc" and set(record) >= {"arguments", "machine", "versions", "results"}
    (figures,) = record["results"]
    assert figures["model"] == "ssd300_vgg16_dct" and figures["images"] == 21
    assert [row["name"] for row in figures["classes"]] == list(NAMES)
    assert record["samples"]["names"][0] == "shape_20"  # the order of the image set
    assert {p.name for p in (folder / "submission").iterdir()} == {f"comp3_det_test_{name}.txt" for name in NAMES}


def test_voc_mistakes_are_one_line_and_lenient_goes_on(dataset, weights, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(dataset, root)
    (root / "Annotations" / "shape_07.xml").unlink()
    (root / "JPEGImages" / "shape_05.jpg").write_bytes(b"")
    for words, change in (("shape_07.xml: no such file", None), ("shape_05.jpg", "shape_07")):
        if change:
            shutil.copy(dataset / "Annotations" / f"{change}.xml", root / "Annotations")
        done = run("voc", weights(), root)
        assert done.returncode == 2 and words in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    (root / "Annotations" / "shape_07.xml").unlink()
    done = run("voc", weights(), root, "--lenient", "--json", tmp_path / "a.json")
    assert done.returncode == 0 and "1 x missing annotation, such as" in done.stderr
    (figures,) = json.loads((tmp_path / "a.json").read_text())["results"]
    assert figures["images"] == 19 and figures["problems"] == {"missing annotation": 1, "unreadable picture": 1}
    for wrong, words in (
        (["--classes", "disc"], "1 names, expected the network's 3"),
        (["--set", "val"], "no such image set"),
        (["--classes", "disc", "square", "cow", "--limit", "0"], "unknown class, expected one of disc, square, cow"),
    ):
        done = run("voc", weights(), dataset, *wrong)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_coco(dataset, weights, tmp_path):
    pytest.importorskip("hotcoco", reason="no COCO evaluator installed")
    images = read_voc(dataset, "test", NAMES)
    truth = export_coco(images, NAMES)
    for category in truth["categories"]:
        category["id"] += 40  # as COCO's: not the labels
    for annotation in truth["annotations"]:
        annotation["category_id"] += 40
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "val2017").symlink_to(dataset / "JPEGImages")
    done = run("coco", weights(), tmp_path, "--json", tmp_path / "c.json", "--report", tmp_path / "report",
               "--submission", tmp_path / "submission.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads((tmp_path / "c.json").read_text())["results"]
    assert len(figures["figures"]) == 12 and figures["evaluator"] == "hotcoco"
    rows = json.loads((tmp_path / "submission.json").read_text())
    assert {row["category_id"] for row in rows} <= {41, 42, 43} and {row["image_id"] for row in rows} <= set(
        range(1, 22)
    )
    same = run("compare", tmp_path / "c.json", tmp_path / "c.json", "--resamples", 20)
    assert same.returncode == 0, same.stderr
    shown = f"{figures['figures']['AP']:.4f}"
    assert re.search(rf"^mAP +{shown} +{shown} +\+0\.0000", same.stdout, re.MULTILINE), same.stdout


def test_coco_of_a_network_whose_labels_have_gaps(dataset, tmp_path):
    """torchvision's have COCO's category numbers: 90 labels, of which no class has 10.  The figures are those of the
    same network without the gaps."""
    pytest.importorskip("hotcoco", reason="no COCO evaluator installed")
    truth = export_coco(read_voc(dataset, "test", NAMES), NAMES)
    places = {1: 1, 2: 44, 3: 90}  # of the classes among 90 labels
    for entry in (*truth["categories"], *truth["annotations"]):
        key = "category_id" if "bbox" in entry else "id"
        entry[key] = places[entry[key]]
    used = {places[k]: name for k, name in enumerate(NAMES, start=1)}
    others = [k for k in COCO_CATEGORY_IDS if k not in used]
    truth["categories"] += [{"id": k, "name": f"nothing {k}"} for k in others]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))
    (tmp_path / "val2017").symlink_to(dataset / "JPEGImages")
    names = {k: f"unused {k}" for k in range(1, 91)} | {k: f"nothing {k}" for k in others} | used
    wide = create_model("ssd300_vgg16_dct", 90, width=1 / 32, seed=0)
    figures = {}
    for labels in (COCO_CATEGORY_IDS, tuple(range(1, 91))):  # without gaps and with them
        model = create_model("ssd300_vgg16_dct", len(labels), width=1 / 32, seed=0)
        state = wide.state_dict()
        for i in range(6):
            at = torch.arange(len(state[f"class_heads.{i}.bias"])).view(-1, 91)[:, [0, *labels]].flatten()
            for kind in ("weight", "bias"):
                state[f"class_heads.{i}.{kind}"] = state[f"class_heads.{i}.{kind}"][at].clone()
            bias = state[f"class_heads.{i}.bias"].view(-1, len(labels) + 1)
            bias[:, 1:][:, [k not in COCO_CATEGORY_IDS for k in labels]] = -1e4  # what no class has is never found
        model.load_state_dict(state)
        file = tmp_path / f"{len(labels)}.safetensors"
        save_weights(model, file, class_names=tuple(names[k] for k in labels))
        done = run("coco", file, tmp_path, "--json", tmp_path / "c.json", "--report", tmp_path / "report",
                   "--score", "0.0001", "--submission", tmp_path / "submission.json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (result,) = json.loads((tmp_path / "c.json").read_text())["results"]
        assert len(result["classes"]) == 80
        figures[len(labels)] = result["figures"]
        rows = json.loads((tmp_path / "submission.json").read_text())
        assert rows and {row["category_id"] for row in rows} <= set(COCO_CATEGORY_IDS)
    assert figures[90] == figures[80]


def test_imagenet(dataset, tmp_path):
    for k, path in enumerate(sorted((dataset / "JPEGImages").iterdir())[:9]):
        target = tmp_path / "set" / f"n0{k % 3}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    tops = []
    for name in ("vgg16_dct", "vgg16"):
        save_weights(create_model(name, 3, width=0.05, seed=1), tmp_path / f"{name}.safetensors")
        out = tmp_path / f"{name}.json"
        done = run("imagenet", tmp_path / f"{name}.safetensors", tmp_path / "set", "--json", out,
                   "--report", tmp_path / name)  # fmt: skip
        assert done.returncode == 0, done.stderr
        (figures,) = json.loads(out.read_text())["results"]
        assert figures["top5"] == 1 and 0 <= figures["top1"] <= 1 and figures["images"] == 9
        tops.append(figures["top1"])
        assert "data:image/jpeg" in (tmp_path / name / "index.html").read_text() or tops[-1] == 1
    both = run("compare", tmp_path / "vgg16_dct.json", tmp_path / "vgg16.json", "--resamples", 30)
    assert both.returncode == 0 and "top-1" in both.stdout and "n02" in both.stdout
    wrong = run("imagenet", tmp_path / "vgg16.safetensors", dataset / "ImageSets")
    assert wrong.returncode == 2 and "expected" in wrong.stderr
    (tmp_path / "index.txt").write_text("n01\nn02\nn03\n")
    wrong = run("imagenet", tmp_path / "vgg16.safetensors", tmp_path / "set", "--class-index", tmp_path / "index.txt")
    assert wrong.returncode == 2 and "n00" in wrong.stderr


def test_compare(voc_run, dataset, weights, tmp_path):
    _, folder = voc_run
    done = run("voc", weights(seed=1), dataset, "--json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    done = run("compare", folder / "a.json", tmp_path / "b.json", "--resamples", 50, "--json", tmp_path / "d.json")
    assert done.returncode == 0, done.stderr
    assert "95% interval" in done.stdout and "21 images, 50 draws" in done.stdout
    (result,) = json.loads((tmp_path / "d.json").read_text())["results"]
    assert result["total"][0]["low"] <= result["total"][0]["high"] and len(result["classes"]) == 3
    done = run("compare", folder / "a.json", tmp_path / "absent.json")
    assert done.returncode == 2 and "absent.json" in done.stderr


def test_the_report_in_a_browser(voc_run, tmp_path):
    _, folder = voc_run
    page_file = folder / "report" / "index.html"
    moved = tmp_path / "elsewhere.html"  # nothing beside it is needed
    shutil.copy(page_file, moved)
    assert not re.search(r"""(src|href)=["'](?!data:)""", moved.read_text())
    with open_browser() as page:
        page.open(moved.as_uri())
        assert page.run("return document.querySelector('h1').textContent").startswith("ssd300_vgg16_dct on test")
        pictures = page.run("return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
        assert len(pictures) > 10 and all(complete and width > 100 and alt for complete, width, alt in pictures)
        loaded = page.run("return performance.getEntriesByType('resource').map(e => e.name.slice(0, 5))")
        assert set(loaded) <= {"data:"}
        plots = page.run("return [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)")
        assert len(plots) == 1 + len(NAMES) and min(plots) > 200
        assert page.run("return document.querySelectorAll('table tr').length") > len(NAMES) + 10
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert [entry for entry in page.log() if entry["level"] in ("SEVERE", "WARNING")] == []
        shot = page.screenshot()
    if where := os.environ.get("JPEGDEEP_SCREENSHOT"):  # to look at oneself
        Path(where).write_bytes(shot)
    colours = np.unique(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 2000  # photographs were painted, not only text on white


def command(*words: object, **options) -> subprocess.CompletedProcess:
    """The command `jpegdeep`, as a process."""
    line = [sys.executable, "-m", "jpegdeep_torch", *map(str, words)]
    return subprocess.run(line, text=True, capture_output=True, cwd=ROOT, **options)


def test_help_lists_the_commands_and_needs_no_pytorch(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('PyTorch was imported')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    done = command("--help", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: jpegdeep COMMAND")
    assert all(re.search(rf"^  {words} ", done.stdout, re.MULTILINE) for words in COMMANDS)
    done = command("eval", "--help", env=environment)
    assert done.returncode == 0 and done.stdout.startswith("usage: jpegdeep eval COMMAND")
    assert re.findall(r"^  (\w+)  ", done.stdout, re.MULTILINE)[-3:] == ["voc", "coco", "imagenet"]
    for wrong, words in (
        ([], "no command: expected one of predict, eval voc"),
        (["evil"], "evil: expected one of predict"),
        (["eval"], "no command: expected one of voc, coco, imagenet"),
        (["eval", "x"], "x: expected one of voc, coco, imagenet"),
    ):
        done = command(*wrong, env=environment)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert "PyTorch was imported" in command("predict", "--help", env=environment).stderr  # the trap works


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_help_under_its_name(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--help"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: jpegdeep {words} ")


def test_the_command_as_a_process(dataset, weights, tmp_path):
    done = command("eval", "voc", weights(), dataset, "--limit", 3, "--json", tmp_path / "a.json")
    assert done.returncode == 0 and "AP (area)" in done.stdout, done.stderr


def test_old_flags_are_still_read(dataset, weights):
    image = dataset / "JPEGImages" / "shape_01.jpg"
    new, old = (run("predict", weights(), image, *flags) for flags in (["--coefficients", "native"], ["--dct", "dct"]))
    assert new.returncode == old.returncode == 0 and new.stdout == old.stdout and "detections" in new.stdout


def test_the_report_says_what_it_is_given_and_nothing_is_markup(tmp_path):
    evil = '<script>alert("1")</script>&'
    image = CaptionedImage(Image.new("RGB", (8, 8)), evil)
    page = write_report(
        tmp_path / "new", evil, [(evil, 0.5)], [{evil: evil, "AP": float("nan")}], [bars([(evil, 0.25)])],
        [(evil, [image]), ("Empty", [])], {evil: evil},
    ).read_text()  # fmt: skip
    assert "<script" not in page
    assert len(re.findall(r"&lt;script&gt;alert\((&#34;|&quot;)1(&#34;|&quot;)\)&lt;/script&gt;&amp;", page)) == 11
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<td>-</td>" in page and "0.5000" in page and 'width="67.5"' in page and "<p>None.</p>" in page
