"""Speed against accuracy: a real run on a small data set."""

from __future__ import annotations

import json

import pytest

from eval.pareto import main
from jpegdeep_torch.cli.evaluate import voc
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.training.make_dataset import CLASSES, make_voc


def weights(path, name: str, names: tuple[str, ...], seed: int = 0) -> str:
    save_weights(create_model(name, len(names), width=1 / 8, seed=seed).eval(), path, class_names=names)
    return str(path)


@pytest.mark.slow
def test_a_run(tmp_path, monkeypatch, capsys):
    """mAP is that of `jpegdeep eval voc`; speeds are those of the samples; another's detector has a speed alone."""
    monkeypatch.chdir(tmp_path)
    root = make_voc(tmp_path / "data", count=4)
    weights(tmp_path / "dct.safetensors", "ssd300_mobilenet_v2_dct_small", CLASSES)
    weights(tmp_path / "rgb.safetensors", "ssd300_mobilenet_v2", CLASSES)
    main([
        "dct.safetensors", "rgb.safetensors", "--voc", str(root), "--seconds", "0", "--workers", "0",
        "--batch-size", "2", "--json", "out.json", "--threads", "1",
    ])  # fmt: skip
    shown = capsys.readouterr().out
    assert "ssd300_mobilenet_v2_dct_small" in shown and "mAP" in shown
    report = json.loads((tmp_path / "out.json").read_text())
    assert {point["name"] for point in report["results"]} == {"dct", "rgb"}
    for point in report["results"]:
        assert point["low"] <= point["mean_ap"] + 1e-9 and point["mean_ap"] <= point["high"] + 1e-9
        samples = sorted(report["samples"][f"{point['name']}, torch"])
        assert len(samples) >= 3 and point["images_per_s"]["median"] == pytest.approx(samples[len(samples) // 2])
        voc([f"{point['name']}.safetensors", str(root), "--json", "one.json", "--workers", "0"])
        (record,) = json.loads((tmp_path / "one.json").read_text())["results"]
        assert point["mean_ap"] == pytest.approx(record["map_area"], abs=1e-6)


def test_detectors_of_other_classes(tmp_path):
    a = weights(tmp_path / "a.safetensors", "ssd300_mobilenet_v2_dct_small", ("x", "y"))
    b = weights(tmp_path / "b.safetensors", "ssd300_mobilenet_v2_dct_small", ("x", "z"))
    with pytest.raises(ModelError, match="expected the same class names in all"):
        main([a, b, "--voc", str(tmp_path), "--workers", "0"])
