"""What training data cost: the command on a real, small data set."""

from __future__ import annotations

import json

import pytest

from eval.training_data import main
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.training.samples import TRAINING_COEFFICIENTS
from tests.training.make_dataset import make_voc


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("voc") / "voc", count=5)


def test_times_and_their_ratios(root, tmp_path, capsys):
    line = [str(root), "--rounds", "3", "--batch-size", "2", "--limit", "3", "--json", str(tmp_path / "a.json")]
    assert run_command(main, line) == 0
    made = json.loads((tmp_path / "a.json").read_text())
    means = {(row["recipe"], row["coefficients"]): row["ms_per_image"]["mean"] for row in made["results"]}
    assert len(means) == 9 and {name for _, name in means} == set(TRAINING_COEFFICIENTS) and min(means.values()) > 0
    assert all(row["images"] == 3 for row in made["results"])
    for ratio in made["ratios"]:  # of six batches, each between the extremes
        assert 0.1 < ratio["geometric_mean"] / (
            means[ratio["recipe"], ratio["numerator"]] / means[ratio["recipe"], ratio["denominator"]]
        ) < 10  # fmt: skip
    assert "native / reencode, SSD recipe" in capsys.readouterr().out


MISTAKES = {
    "rounds": (["--rounds", "0"], "at least 1"),
    "model": (["--model", "ssd300_vgg16"], "takes coefficients"),
    "set": (["--set", "holidays"], "holidays"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(root, mistake, capsys):
    arguments, expected = MISTAKES[mistake]
    assert run_command(main, [str(root), *arguments]) == 2
    assert expected in capsys.readouterr().err.strip().splitlines()[-1]
