"""The profile command, and the named ranges of the pipeline."""

from __future__ import annotations

import json
import re

import pytest
import torch

from eval.benchmark.observers import RANGES, named_range
from eval.profile import main
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg


@pytest.fixture
def small(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg())
    save_weights(create_model("ssd300_vgg16_dct", width=0.05, seed=0), tmp_path / "w")
    return ["--weights", str(tmp_path / "w"), "--images", str(tmp_path / "images"), "--batch-size", "2",
            "--workers", "0", "--batches", "3", "-o", str(tmp_path / "out")]  # fmt: skip


def test_trace_and_table(small, tmp_path, capsys):
    main([*small, "--top", "4"])
    printed = capsys.readouterr().out
    trace = json.loads((tmp_path / "out" / "trace.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"]]
    assert set(RANGES) <= set(names) and names.count("network") >= 3
    found = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert found["images"] == 6 and [stage["name"] for stage in found["stages"]] == list(RANGES)
    calls = {stage["name"]: stage["calls"] for stage in found["stages"]}
    assert calls["network"] == calls["transfer"] == calls["decode and NMS"] == 3
    costs = [operator["cpu_ms"] for operator in found["operators"]]
    assert costs == sorted(costs, reverse=True) and any("conv" in o["name"] for o in found["operators"][:5])
    assert len(found["operators"]) > 4 == len(re.findall(r"^\| \w+::", printed, flags=re.MULTILINE))
    assert "nsys profile --trace=cuda,nvtx,osrt" in printed and "--plain" in printed
    (tmp_path / "out" / "trace.json").unlink()
    main([*small, "--plain"])
    assert not (tmp_path / "out" / "trace.json").exists()


def test_ranges_are_nvtx_on_a_gpu(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", told.append)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: told.append("end"))
    with named_range("network", torch.device("cpu")):
        pass
    assert not told
    with pytest.raises(ValueError), named_range("network", torch.device("cuda")):
        raise ValueError
    assert told == ["network", "end"]


MISTAKES = {
    "classifier": (["--model", "vgg16"], "a classifier"),
    "batches": (["--model", "ssd300_vgg16", "--batches", "0"], "--batches 0"),
    "backend": (["--model", "ssd300_vgg16", "--backend", "magic"], "unknown backend"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, tmp_path, capsys):
    arguments, expected = MISTAKES[mistake]
    assert run_command(main, ["-o", str(tmp_path / "o"), *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert expected in line


def test_output_is_a_file(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(main, [*small, "-o", str(tmp_path / "file")]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err
