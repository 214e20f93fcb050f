"""There is one path from JPEGs to boxes: throughput, training's evaluation and profiling run a Predictor's steps."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import pytest

from eval.profile import main as profile
from eval.throughput import main as throughput
from jpegdeep_torch.cli.train import main as train
from jpegdeep_torch.inference import detector as detector_module
from jpegdeep_torch.inference.predictor import STEPS, Predictor
from tests.training.make_dataset import make_voc
from tests.training.runs import write_config

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = {
    "jpegdeep_torch/public.py",  # a public name
    "jpegdeep_torch/keras/verify.py",  # a converted network beside Keras: no images, no clipping
}


@pytest.fixture
def calls(monkeypatch) -> Counter:
    """How often each step began, the batches that `read` gave, and the calls of `detect`, in this process."""
    counted: Counter = Counter()

    def counting(name, function):
        def call(*arguments, **options):
            counted[name] += 1
            return function(*arguments, **options)

        return call

    def reading(*arguments, **options):
        for batch in read(*arguments, **options):
            counted["read"] += 1
            yield batch

    read = Predictor.read
    monkeypatch.setattr(Predictor, "read", reading)
    for step in STEPS[1:]:
        monkeypatch.setattr(Predictor, step, counting(step, getattr(Predictor, step)))
    monkeypatch.setattr(detector_module, "detect", counting("detect", detector_module.detect))
    return counted


@pytest.fixture
def arguments(dataset, weights) -> list[str]:
    return ["--images", str(dataset / "JPEGImages"), "--workers", "0", "--threads", "1"]


def test_end_to_end_throughput(calls, arguments, weights, tmp_path):
    line = ["--models", "ssd300_vgg16_dct", "--weights", f"ssd300_vgg16_dct={weights()}", "--batch-sizes", "2",
            "--seconds", "0", "--json", str(tmp_path / "t.json")]  # fmt: skip
    throughput([*arguments, *line, "--stage", "e2e"])
    (row,) = json.loads((tmp_path / "t.json").read_text())["results"]
    assert set(row["stages_ms"]) >= {"wait", "transfer", "network", "nms"}
    # A warm-up of one or two batches.  The stream is a batch ahead, and one was read to compare the backend with.
    assert calls["postprocess"] == calls["detect"] >= len(row["samples"]) + 1
    assert calls["read"] - 1 == calls["prepare"] - 1 == calls["forward"] == calls["postprocess"] + 1


def test_the_network_alone(calls, arguments, weights, tmp_path):
    line = ["--models", "ssd300_vgg16_dct", "--weights", f"ssd300_vgg16_dct={weights()}", "--batch-sizes", "2",
            "--seconds", "0", "--json", str(tmp_path / "t.json")]  # fmt: skip
    throughput([*arguments, *line, "--stage", "model", "--nms", "on"])
    (row,) = json.loads((tmp_path / "t.json").read_text())["results"]
    assert calls["postprocess"] == calls["detect"] >= len(row["samples"]) + 1
    assert calls["forward"] == calls["postprocess"] + 1  # once to see that the outputs are finite
    assert calls["read"] == calls["prepare"] == 2  # that batch, and one to compare the backend with


def test_profiling(calls, arguments, weights, tmp_path):
    line = ["--weights", str(weights()), "--batches", "3", "--batch-size", "2", "-o", str(tmp_path / "p")]
    profile([*arguments, *line])
    assert [calls[name] for name in (*STEPS, "detect")] == [2 + 3] * 5  # two that do not count


def test_training_evaluates_by_them(calls, tmp_path):
    config = write_config(tmp_path, make_voc(tmp_path / "voc", count=6))
    assert not train([str(config), "-o", str(tmp_path / "run")])
    # Two epochs, after each of which 6 images are evaluated in batches of 4.
    assert [calls[name] for name in (*STEPS, "detect")] == [2 * 2] * 5


def test_nobody_else_calls_detect():
    lower = {ROOT / "jpegdeep_torch" / room for room in ("inference", "detection")}
    files = [f for top in ("jpegdeep_torch", "eval", "convert") for f in sorted((ROOT / top).rglob("*.py"))]
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        if not lower & set(file.parents) and file.relative_to(ROOT).as_posix() not in EXCEPTIONS
        for line in _uses_of_detect(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found


def test_uses_of_detect_are_found():
    source = """
from jpegdeep_torch.detection import detect as d, ssd300_anchors
from ..detection.nms import detect
import jpegdeep_torch.detection.nms as nms
detect(a, b)
nms.detect(a)
jpegdeep_torch.detection.detect(a)
self.detect(a)
peer.detect(b)
"""
    assert _uses_of_detect(ast.parse(source)) == [2, 3, 5, 6, 7]


def _uses_of_detect(tree: ast.AST) -> list[int]:
    """Lines that import or call `detection.detect`.  Methods that other people's detectors call `detect` are not it."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used = any(alias.name == "detect" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            used = node.func.attr == "detect" and ast.unparse(node.func.value).split(".")[-1] in ("detection", "nms")
        else:
            used = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "detect"
        lines += [node.lineno] if used else []
    return sorted(lines)
