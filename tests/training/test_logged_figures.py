"""What docs/training.md says of the log's figures and the evaluating command's, for the ways that decode."""

from __future__ import annotations

import json

import pytest

from jpegdeep_torch.cli.evaluate import voc as eval_voc
from jpegdeep_torch.cli.train import main as training
from jpegdeep_torch.training.run_folder import read_log
from tests.training.make_dataset import make_voc
from tests.training.runs import write_config


@pytest.mark.parametrize("coefficients", ["reencode", "pixels"])
def test_the_same_figure_with_the_same_way_to_coefficients(tmp_path, coefficients):
    root = make_voc(tmp_path / "voc", count=8)
    run = tmp_path / "run"
    training(
        [str(write_config(tmp_path, root)), "-o", str(run), "--set", f"data.coefficients={coefficients}",
         "augmentation.enabled=false", "run.epochs=4", "optimizer.kind=adamw", "optimizer.learning_rate=2e-3",
         "run.evaluate_every=4"]
    )  # fmt: skip
    (logged,) = read_log(run, "evaluation")
    found = {}
    for coefficients in (None, "reencode", "native"):
        line = [
            str(run / "last.safetensors"),
            str(root),
            "--workers",
            "0",
            "--json",
            str(tmp_path / f"{coefficients}.json"),
        ]
        eval_voc([*line, "--coefficients", coefficients] if coefficients else line)
        found[coefficients] = json.loads((tmp_path / f"{coefficients}.json").read_text())["results"][0]["map_area"]
    assert found[None] == found["reencode"] == pytest.approx(logged["mAP"], abs=1e-6) and logged["mAP"] > 0
    assert found["native"] != pytest.approx(logged["mAP"], abs=1e-6)
