"""The throughput command: real runs of small plans, and the arithmetic of its figures."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from eval.benchmark.measure import BenchmarkCase, CaseResult, Sample, measure, take_turns
from eval.benchmark.photos import builtin_jpegs
from eval.benchmark.seeded import seeded_detector
from eval.benchmark.statistics import summary
from eval.throughput import main
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.errors import JpegDeepError
from jpegdeep_torch.jpeg.header import read_header
from jpegdeep_torch.models import create_model, model_config
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg


def test_builtin_photographs():
    photographs = builtin_jpegs()
    assert photographs == builtin_jpegs() and photographs != builtin_jpegs(seed=1)
    assert len(photographs) == 32 == len(set(photographs))
    for data in photographs:
        header = read_header(data)
        assert (header.width, header.height) == (500, 375)
        assert header.sampling == ((2, 2), (1, 1), (1, 1))


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_resnet50_lcrfa"])
@pytest.mark.parametrize("classes", [3, 20])
def test_seeded_detector_lets_about_400_scores_pass(name, classes):
    generator = torch.Generator().manual_seed(1)
    shapes = model_config(name).input_shapes().values()
    inputs = [torch.randn(2, *shape, generator=generator) * 50 for shape in shapes]
    model = seeded_detector(name, inputs, seed=3, num_classes=classes, width=0.125)
    with torch.inference_mode():
        logits, offsets = model(*inputs)
    scores = logits.softmax(-1)[..., 1:]
    assert 300 * 2 <= (scores > 0.01).sum() <= 500 * 2
    assert offsets.std() < 3  # boxes of a sensible size
    again = seeded_detector(name, inputs, seed=3, num_classes=classes, width=0.125)
    assert all((a == b).all() for a, b in zip(model.state_dict().values(), again.state_dict().values()))


def test_figures_by_hand():
    slow, fast = [Sample(8, 4.0), Sample(8, 2.0), Sample(8, 1.0)], [Sample(8, 1.0), Sample(8, 1.0), Sample(8, 1.0)]
    result = CaseResult(BenchmarkCase("model", 8, True), {"slow": slow, "fast": fast})
    assert result.images_per_s("slow") == [2, 4, 8] and result.ratios("fast", "slow") == [4, 2, 1]
    assert summary([2, 4, 8])["median"] == 4
    assert summary(range(101)) == {"median": 50, "p10": 10, "p90": 90}
    timed = [Sample(2, 1.0, {"network": 600, "nms": 10}), Sample(2, 1.0, {"network": 200})]
    result = CaseResult(BenchmarkCase("e2e", 2, True), {"it": timed})
    assert result.stages_ms("it") == {"network": 200.0, "nms": 2.5} and result.ms_per_image("it") == 500


class Recorded:
    """A candidate that takes no time and notes when it is called."""

    def __init__(self, label, calls, wait_ms=0.0):
        self.label, self.calls, self.wait_ms = label, calls, wait_ms

    def stage(self, case):
        if case.stage == "e2e" and self.label == "c":
            return None

        def run(batches):
            self.calls.extend([self.label] * batches)
            return Sample(batches, 0.001 * batches, {"wait": self.wait_ms * batches})

        return run


def test_candidates_take_turns():
    calls = []
    result = measure([Recorded(label, calls) for label in "abc"], BenchmarkCase("model", 1, False), seconds=0)
    assert {label: len(samples) for label, samples in result.samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert calls[-9:] == ["a", "b", "c"] * 3


def test_short_batches_are_put_together_to_longer_samples():
    calls = []
    case = BenchmarkCase("model", 1, False)
    samples = take_turns([(Recorded("a", calls), case)], 0, fewest=2, sample_s=0.0035)
    assert [s.images for s in samples["a", case]] == [4, 4] and calls[-8:] == ["a"] * 8  # of a millisecond each


def test_what_was_read_ahead_is_used_up_where_the_data_binds():
    calls = []
    case = BenchmarkCase("e2e", 1, True, workers=2)
    result = measure([Recorded("a", calls), Recorded("b", calls, wait_ms=0.9), Recorded("c", calls)], case, seconds=0)
    assert list(result.samples) == ["a", "b"]  # c has no such stage
    assert [s.images for s in result.samples["a"]] == [1, 1, 1]
    assert [s.images for s in result.samples["b"]] == [8, 8, 8]  # twice the 4 batches that 2 workers read ahead
    assert calls[-39:] == (["a"] + ["b"] * 12) * 3


@pytest.mark.slow
def test_command_on_a_folder_with_own_weights(tmp_path, capsys):
    """Small networks from files, all cases, both kinds of coefficients, JSON as the design lays it down."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        (images / f"{i}.jpg").write_bytes(jpeg())
    files = []
    for name in ("ssd300_vgg16", "ssd300_vgg16_dct"):
        save_weights(create_model(name, width=0.125, seed=0), tmp_path / name)
        files.append(f"{name}={tmp_path / name}")
    out = tmp_path / "t.json"
    common = ["--images", str(images), "--weights", *files, "--seconds", "0", "--workers", "1"]
    main([*common, "--batch-sizes", "1", "4", "--json", str(out)])
    main(
        [
            *common,
            "--batch-sizes",
            "2",
            "--stage",
            "e2e",
            "--nms",
            "on",
            "--dct",
            "reencode",
            "--plot",
            str(tmp_path / "t.png"),
        ]
    )
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.width > 300 and len(picture.convert("RGB").getcolors(1 << 24)) > 10
    report = json.loads(out.read_text())
    rounds = {len(row["samples"]) for row in report["results"]}
    assert min(rounds) >= 3
    assert {"command", "arguments", "machine", "versions", "results", "ratios"} <= set(report)
    cases = {(r["stage"], r["batch_size"], r["nms"]) for r in report["results"]}
    assert cases == {("model", n, nms) for n in (1, 4) for nms in (True, False)} | {("e2e", n, True) for n in (1, 4)}
    assert len(report["results"]) == 12 and len(report["ratios"]) == 6
    for row in report["results"]:
        assert row["images_per_s"]["median"] == pytest.approx(np.median(row["samples"]))
        assert row["stages_ms"]["network"] > 0 and ("nms" in row["stages_ms"]) == row["nms"]
        assert not row["seeded_weights"]
        at_the_largest_batch = row["stage"] == "model" and row["batch_size"] == 4 and not row["nms"]
        assert ("convolution_speed_reached" in row) == at_the_largest_batch
    printed = capsys.readouterr().out
    assert "ratio to ssd300_vgg16" in printed and "decode and NMS" in printed
    assert "coefficients by 'reencode'" in printed and "coefficients by 'native'" in printed


def test_nonsense_has_no_speed(tmp_path):
    model = create_model("ssd300_vgg16_dct", width=0.125, seed=0).eval()
    with torch.no_grad():
        model.trunk.fc7.weight[0, 0] = float("nan")
    save_weights(model, tmp_path / "nan")
    with pytest.raises(JpegDeepError, match="not finite"):
        main(["--models", "ssd300_vgg16_dct", "--weights", f"ssd300_vgg16_dct={tmp_path / 'nan'}", "--seconds", "0",
              "--batch-sizes", "1", "--stage", "model"])  # fmt: skip


MISTAKES = {
    "unknown model": (["--models", "ssd512"], "unknown model 'ssd512': expected one of"),
    "classifier": (["--models", "vgg16"], "a classifier, expected a detector"),
    "unknown backend": (["--backend", "magic"], "unknown backend 'magic'"),
    "missing weights": (["--weights", "ssd300_vgg16=nowhere.safetensors"], "nowhere.safetensors: no such file"),
    "weights for nobody": (["--weights", "vgg=x"], "expected MODEL=FILE"),
    "wrong weights": (["--weights", "ssd300_vgg16={other}"], "holds ssd300_vgg16_dct, expected ssd300_vgg16"),
    "not weights": (["--weights", "ssd300_vgg16={junk}"], "not a readable safetensors file"),
    "empty folder": (["--images", "{empty}"], "no JPEG files"),
    "no folder": (["--images", "{empty}/x"], "no such folder"),
    "broken image": (["--images", "{broken}"], "bad.jpg: empty file"),
    "batch size 0": (["--batch-sizes", "0"], "expected at least 1"),
    "workers": (["--workers", "-1"], "expected 0 or more"),
    "device": (["--device", "cuda:99"], "cuda"),
    "no such device": (["--device", "abacus"], "abacus"),
    "threads": (["--threads", "0"], "threads"),
    "end to end without NMS": (["--stage", "e2e", "--nms", "off"], "always NMS"),
    "a word for a number": (["--seconds", "soon"], "soon"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "bad.jpg").write_bytes(b"")
    (folder / "junk.safetensors").write_bytes(b"\x89HDF junk")
    save_weights(create_model("ssd300_vgg16_dct", width=0.125), folder / "other.safetensors")
    return {
        "empty": folder / "empty",
        "broken": folder / "broken",
        "junk": folder / "junk.safetensors",
        "other": folder / "other.safetensors",
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_and_status_2(mistake, places, capsys):
    arguments, expected = MISTAKES[mistake]
    try:
        status = run_command(main, [argument.format(**places) for argument in arguments])
    except SystemExit as stop:  # argparse's way
        status = stop.code
    printed = capsys.readouterr()
    assert status == 2 and not printed.out
    assert expected in printed.err.replace("\r", "\n").strip().splitlines()[-1]


@pytest.mark.parametrize("mistake", ["unknown model", "empty folder"])
def test_mistakes_end_the_process_without_a_traceback(mistake, places):
    arguments, expected = MISTAKES[mistake]
    command = [sys.executable, "-m", "eval.throughput", *(a.format(**places) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert expected in line
    assert not done.stdout
