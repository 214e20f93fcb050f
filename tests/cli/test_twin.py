"""`jpegdeep twin`: its output, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jpegdeep_torch import create_model, load_model, save_weights
from jpegdeep_torch.cli.command import EXIT_MISTAKE, run_command
from jpegdeep_torch.cli.main import main
from tests.shapes import draw_scene

QUICK = ("--steps", "2", "--batch-size", "2", "--crop", "32", "--threads", "1")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    (folder / "pictures").mkdir()
    for seed in range(12):
        draw_scene(seed)[0].save(folder / "pictures" / f"{seed:02d}.jpg", quality=90)
    save_weights(create_model("mobilenet_v2", 5, width=0.25, seed=0), folder / "rgb.safetensors")
    save_weights(create_model("ssd300_vgg16", 3, width=0.0625, seed=0), folder / "ssd.safetensors")
    save_weights(create_model("mobilenet_v2_dct", 5, width=0.25, seed=0), folder / "dct.safetensors")
    return folder


def test_a_twin_with_its_figures_and_its_page(folder, tmp_path, capsys):
    out = tmp_path / "twin.safetensors"
    main(["twin", str(folder / "rgb.safetensors"), "--images", str(folder / "pictures"), "-o", str(out), "--size", "64",
          *QUICK, "--json", str(tmp_path / "f.json"), "--report", str(tmp_path / "page")])  # fmt: skip
    printed = capsys.readouterr()
    assert "explained variance" in printed.out and "times as fast" in printed.out and str(out) in printed.out
    assert "11 pictures, 1 are held out" in printed.err
    assert load_model(out).config.name == "mobilenet_v2_dct_small"
    record = json.loads((tmp_path / "f.json").read_text())
    assert record["command"] == "twin" and [a["quality"] for a in record["results"][0]["agreements"]] == [
        None,
        95,
        75,
        50,
    ]
    page = (tmp_path / "page" / "index.html").read_text()
    assert "and its twin" in page and "data:image/jpeg" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.json", "page", "twin.safetensors"]


def test_into_another_network(folder, tmp_path, capsys):
    out = tmp_path / "ssd_dct.safetensors"
    main(["twin", str(folder / "ssd.safetensors"), "--to", "ssd300_vgg16_dct", "--images", str(folder / "pictures"),
          "-o", str(out), *QUICK])  # fmt: skip
    assert "explained variance of the feature maps, on 1 held-out pictures" in capsys.readouterr().out
    assert load_model(out).config.name == "ssd300_vgg16_dct"


def test_mistakes_are_told_in_one_line(folder, tmp_path, capsys):
    out, pictures = str(tmp_path / "x.safetensors"), str(folder / "pictures")
    cases = {
        (str(folder / "dct.safetensors"), pictures): "is mobilenet_v2_dct, which takes coefficients",
        (str(folder / "rgb.safetensors"), str(tmp_path)): "no JPEG files in it",
        (str(folder / "rgb.safetensors"), pictures, "--layer", "features.17"): "expected a feature map of stride 4",
        (str(folder / "rgb.safetensors"), pictures, "--layer", "nothing"): "no layer 'nothing' to cut at",
        ("no.module:thing", pictures): "no.module:thing: cannot be made (ModuleNotFoundError",
        ("math:floor", pictures): "math:floor: cannot be made (TypeError",
        (str(folder / "rgb.safetensors"), pictures, "--to", "ssd300_vgg16_dct"): "expected an RGB network of the VGG",
    }  # fmt: skip
    for (teacher, images, *more), message in cases.items():
        arguments = ["twin", teacher, "--images", images, "-o", out, *QUICK, "--size", "64", *more]
        assert run_command(main, arguments) == EXIT_MISTAKE
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line
    assert list(tmp_path.iterdir()) == []
