"""Training from Python: the same run as the command's."""

from __future__ import annotations

import os
import re

import pytest
import tomllib
import torch
from safetensors.torch import load_file

import jpegdeep_torch
from jpegdeep_torch import Detector
from jpegdeep_torch.cli.train import main as command
from jpegdeep_torch.errors import ConfigError, TrainingError
from jpegdeep_torch.training.config import load_config
from jpegdeep_torch.training.report import Callbacks
from tests.training.make_dataset import make_voc
from tests.training.runs import write_config


def test_from_python_it_is_the_command_s_run(tmp_path):
    config = write_config(tmp_path, make_voc(tmp_path / "voc"))
    command([str(config), "-o", str(tmp_path / "a"), "--set", "run.seed=3"])
    expected = load_file(tmp_path / "a" / "last.safetensors")
    table = tomllib.loads(config.read_text())
    forms = {
        "file": (config, ["run.seed=3"]),
        "mapping": (table, {"run": {"seed": 3}}),
        "dataclass": (load_config(config, ["run.seed=3"]), ()),
    }
    for name, (given, changes) in forms.items():
        done = jpegdeep_torch.train(given, output=tmp_path / name, changes=changes)
        assert done.folder == tmp_path / name and done.last.is_file() and done.best.is_file()
        held = load_file(done.last)
        assert held.keys() == expected.keys() and all(torch.equal(held[k], expected[k]) for k in held), name
        assert done.figures["best"] == done.figures["mAP"] or done.figures["best"] > done.figures["mAP"]
    assert Detector.load(done.best, workers=0).config.num_classes == 2


def test_it_tells_how_it_gets_on_and_goes_on(tmp_path):
    config = write_config(tmp_path, make_voc(tmp_path / "voc"))
    said, steps, begun, evaluated, checked = [], [], [], [], []
    callbacks = Callbacks(said.append, lambda done, shown: steps.append(done), evaluated.append, checked.append,
                      lambda *numbers: begun.append(numbers))  # fmt: skip
    options = {"output": tmp_path / "run", "callbacks": callbacks}
    jpegdeep_torch.train(config, changes=["run.epochs=1"], **options)
    assert steps == [1, 2, 3, 4] and begun == [(0, 4)] and sum(evaluated) == 8 and sum(checked) == 8
    assert "ssd300_vgg16_dct, width 0.03, on" in said[0]
    with pytest.raises(TrainingError, match="holds a run already"):
        jpegdeep_torch.train(config, changes=["run.epochs=1"], **options)
    held = tmp_path / "run" / "config.toml"  # as of a version that knew fewer keys
    newer = re.search(r"\n\[reading\]\n([^\[]+\n)*?\n", held.read_text())[0]
    held.write_text(held.read_text().replace(newer, "\n").replace('orientation = ""\n', ""))
    jpegdeep_torch.train(config, changes=["run.epochs=1"], resume=True, **options)
    assert begun[-1] == (4, 4) and steps == [1, 2, 3, 4]


def test_mistakes_are_said_at_once_and_name_no_flags(tmp_path):
    with pytest.raises(ConfigError) as error:
        jpegdeep_torch.train({"model": {"name": "no"}, "data": {"kind": "voc", "train": []}, "run": {"speed": 1}})
    message = str(error.value)
    assert message.startswith("the configuration: ") and isinstance(error.value, ValueError)
    for part in ('model.name: "no"', "run.speed: unknown key", "no folder to write to"):
        assert part in message, message
    assert "--" not in message and not os.listdir(tmp_path)
