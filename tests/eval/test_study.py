"""The study command on small networks, and the arithmetic of its figures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from eval.benchmark.candidates import BenchmarkCase
from eval.benchmark.threads import threads_set_to
from eval.study import folder as folder_module
from eval.study import scaling
from eval.study import throughput_model as prediction
from eval.study.__main__ import main
from eval.study.folder import ROUNDS, StudyFolder, StudySettings, read_json
from eval.study.images import images_from
from eval.study.page import GTX_1080, matrix_page, verdict
from eval.study.plan import Matrix, blocks
from eval.study.results import Rows, binding, ratio_samples, stage_times
from eval.study.scaling import Ladder
from eval.study.scaling_page import bars
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg, picture

MODELS = ("ssd300_vgg16", "ssd300_vgg16_dct")
OLD_STUDY = Path(__file__).resolve().parents[2] / "docs" / "study"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Arguments: two narrow networks, two images, the shortest plan that has all kinds of blocks."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "images").mkdir()
    for i in range(2):
        (folder / "images" / f"{i}.jpg").write_bytes(jpeg())
    for name in MODELS:
        save_weights(create_model(name, width=0.05, seed=0), folder / f"{name}.safetensors")
    weights = [str(folder / f"{name}.safetensors") for name in MODELS]
    return ["--weights", *weights, "--images", str(folder / "images"), "--batch-sizes", "1", "2", "--base-batch", "2",
            "--workers", "0", "1", "--seconds", "0", "--parts", "matrix"]  # fmt: skip


def test_blocks_are_the_whole_matrix():
    matrix = Matrix(MODELS, ("torch", "onnxruntime"), (1, 8), 8, ("native", "reencode"), (1, 0, 2))
    plan = blocks(matrix)
    measured = {(backend, case) for block in plan for backend in block.backends for case in block.cases}
    expected = {(b, BenchmarkCase("model", n, nms)) for b in matrix.backends for n in (1, 8) for nms in (True, False)}
    expected |= {
        (b, BenchmarkCase("e2e", n, True, w, coefficients))
        for b in matrix.backends for n in (1, 8) for w in (0, 1, 2) for coefficients in (None, "reencode")
    }  # fmt: skip
    assert measured == expected
    assert plan[0].name == "core-8" and plan[0].backends == matrix.backends and plan[0].peers
    assert len({block.name for block in plan}) == len(plan)


@pytest.mark.parametrize(
    "wrong", [{"base_batch": 4}, {"batch_sizes": (0, 8)}, {"workers": ()}, {"backends": ("torch", "torch")}]
)
def test_impossible_matrices(wrong):
    with pytest.raises(DatasetError):
        Matrix(MODELS, **wrong)


def test_stopped_studies_go_on(small, tmp_path, capsys, monkeypatch):
    """With no time, the base alone; then the rest, without the base's being measured again; the page tells all."""
    folder = tmp_path / "study"
    main([*small, "-o", str(folder), "--minutes", "0"])
    page = (folder / "README.md").read_text()
    assert "Not measured yet: core-1, varied-2, varied-1." in page
    assert "no time for core-1, varied-2, varied-1:" in capsys.readouterr().err
    first = (folder / "blocks" / "core-2.json").read_bytes()
    (folder / "blocks" / "core-1.json.tmp").write_text("half")  # a killed run leaves at most such a file

    monkeypatch.setattr(folder_module, "interleave", _stop_after(2))
    with pytest.raises(KeyboardInterrupt):
        main([*small, "-o", str(folder)])
    assert sorted(p.name for p in (folder / "blocks").glob("*.json")) == ["core-1.json", "core-2.json", "varied-2.json"]
    monkeypatch.undo()
    page = (folder / "README.md").read_text()  # told before it stopped
    assert "Not measured yet: varied-1." in page
    main([*small, "-o", str(folder)])
    assert (folder / "blocks" / "core-2.json").read_bytes() == first
    record = json.loads((folder / "study.json").read_text())
    assert record["missing"] == [] and record["machine"]["cores"] >= 1
    rows = record["results"]
    assert {row["block"] for row in rows} == {"core-1", "core-2", "varied-1", "varied-2"}
    keys = ("model", "stage", "batch_size", "nms", "workers", "coefficients")
    assert len({tuple(row[key] for key in keys) for row in rows}) == 2 * 2 * 2 + 2 * 2 * 3
    assert all(len(row["samples"]) >= ROUNDS for row in rows)
    assert record["command"] == "eval.study" and record["arguments"]["base_batch"] == 2
    page = (folder / "README.md").read_text()
    assert "Not measured" not in page and "binds**" in page and "The best setting" in page
    for name in ("batch", "stages", "ratio", "workers"):
        assert f"({name}.png)" in page
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 300 and len(picture.convert("RGB").getcolors(1 << 24)) > 10
    capsys.readouterr()

    for change, named in ((["--seconds", "1"], "setting.seconds was 0.0, is 1.0"), (["--workers", "2"], "workers")):
        assert run_command(main, [*small, "-o", str(folder), *change]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "a study of other settings" in line and named in line


def _stop_after(count: int):
    """`interleave`, and Ctrl-C instead of its call number `count` + 1."""
    calls = []

    def interleave(*arguments):
        calls.append(arguments)
        if len(calls) > count:
            raise KeyboardInterrupt
        return original(*arguments)

    original = folder_module.interleave
    return interleave


def test_studies_of_old_versions_go_on(monkeypatch):
    """docs/study is one: it says "dct", "presets" and "pictures", and its page `dct` where today's says `native`."""
    raw = json.loads((OLD_STUDY / "settings.json").read_text())
    for name in ("machine", "versions"):
        monkeypatch.setattr(folder_module, name, lambda name=name: raw[name])
    monkeypatch.setattr(torch, "get_num_threads", lambda: raw["threads"])
    before = {file: file.read_bytes() for file in OLD_STUDY.rglob("*.json")}
    settings = StudySettings(**{key: raw["setting"][key] for key in ("seconds", "decoder", "weights")})
    matrix = Matrix(MODELS, batch_sizes=(1, 8, 32), coefficients=("native", "reencode"), workers=(1, 0, 2))
    study = StudyFolder(OLD_STUDY, matrix, settings, [], images=raw["pictures"], peer_names=raw["peers"])
    assert study.missing() == []
    assert {row.get("coefficients") for row in study.rows()} == {"native", "reencode", None}
    assert {row["coefficients"] for row in read_json(OLD_STUDY / "scaling.json")["scaling"]} == {
        "native",
        "reencode",
        None,
    }
    page = matrix_page(Rows(study.rows(), matrix), study.settings, [], "")
    there = (OLD_STUDY / "README.md").read_text().replace("`dct`", "`native`")
    lines = {"".join(line.split()).replace("-", "") for line in there.splitlines()}  # columns have grown by 3 letters
    assert len(page) > 100 and all("".join(line.split()).replace("-", "") in lines for line in page)
    assert {file: file.read_bytes() for file in OLD_STUDY.rglob("*.json")} == before


MISTAKES = {
    "folder": (["-o", "{full}"], "neither empty nor a study's folder"),
    "file": (["-o", "{full}/x"], "cannot be"),
    "batch": (["-o", "{new}", "--base-batch", "3"], "base batch 3 is not among"),
    "model": (["-o", "{new}", "--models", "ssd512"], "unknown model 'ssd512'"),
    "classifier": (["-o", "{new}", "--models", "vgg16"], "a classifier"),
    "backend": (["-o", "{new}", "--backends", "magic"], "unknown backend"),
    "peer": (["-o", "{new}", "--peers", "magic"], "unknown peer 'magic'"),
    "minutes": (["-o", "{new}", "--minutes", "-1"], "--minutes"),
    "seconds": (["-o", "{new}", "--seconds", "nan"], "--seconds"),
    "limit": (["-o", "{new}", "--limit", "0"], "--limit 0"),
    "weights twice": (["-o", "{new}", "--weights", "{weights}", "{weights}"], "both hold ssd300_vgg16"),
    "no weights": (["-o", "{new}", "--weights", "nowhere.safetensors"], "no such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_and_measure_nothing(mistake, small, tmp_path, capsys):
    arguments, expected = MISTAKES[mistake]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    places = {"full": tmp_path / "full", "new": tmp_path / "new", "weights": small[1]}
    start = [] if any(a in arguments for a in ("--weights", "--models")) else small
    status = run_command(main, [*start, *(a.format(**places) for a in arguments)])
    printed = capsys.readouterr()
    assert status == 2 and not printed.out and not list(tmp_path.glob("new/blocks/*"))
    assert expected in printed.err.strip().splitlines()[-1]


def _row(model: str, stage: str, samples: list[float], workers: int = 0, **stages_ms: float) -> dict:
    median = sorted(samples)[len(samples) // 2]
    return {
        "model": model, "backend": "torch", "stage": stage, "batch_size": 8, "nms": True, "workers": workers,
        "coefficients": "native" if "dct" in model else None, "block": "core-8", "samples": samples,
        "images_per_s": {"median": median}, "stages_ms": stages_ms, "build_seconds": 0, "largest_difference": 0,
    }  # fmt: skip


def test_what_binds_by_hand():
    row = _row(MODELS[1], "e2e", [5.0], 1, wait=1, transfer=2, network=180, nms=17, decode=20, resize=5)
    found = binding(row)
    assert (found.stage, found.stage_ms, found.wall_ms) == ("network", 180, 200) and found.share == 0.9
    assert found.without_ms == 25  # the worker's time, more than the 20 ms that the others take
    assert binding(row | {"workers": 2}).without_ms == 20
    waits = _row(MODELS[1], "e2e", [5.0], 1, wait=90, transfer=0, network=8, nms=2, decode=100)
    assert binding(waits).stage == "data" and binding(waits).without_ms == 10
    assert stage_times(row)["read and entropy-decode"] == (20, True)
    serial = _row(MODELS[1], "e2e", [5.0], 0, wait=27, transfer=2, network=180, nms=17, decode=20, resize=5)
    assert stage_times(serial)["waiting for data"] == (2, False)
    assert ratio_samples(row | {"samples": [4, 9]}, row | {"samples": [2, 3]}) == [2, 3]


def test_the_page_tells_the_figures():
    matrix = Matrix(MODELS, workers=(1,), batch_sizes=(8,), coefficients=("native",))
    stages = {"wait": 1.0, "transfer": 1.0, "network": 90.0, "nms": 8.0, "decode": 3.0}
    rows = Rows(
        [
            _row(MODELS[0], "e2e", [4.0, 5.0, 6.0], 1, **{**stages, "network": 190.0}),
            _row(MODELS[1], "e2e", [10.0, 10.0, 12.0], 1, **stages),
            _row(MODELS[0], "model", [4.0, 5.0, 6.0], network=180.0, nms=20.0),
            _row(MODELS[1], "model", [8.0, 10.0, 18.0], network=90.0, nms=10.0),
            _row(MODELS[0], "model", [5.0, 5.0, 5.0], network=200.0) | {"nms": False},
            _row(MODELS[1], "model", [15.0, 15.0, 15.0], network=66.7) | {"nms": False},
        ],
        matrix,
    )
    settings = {
        "machine": {"cpu": "a processor", "cores": 2, "gpu": None}, "versions": {"torch": "2"}, "threads": 2,
        "setting": {"device": "cpu", "precision": "float32"}, "images": {"what": "some"},
    }  # fmt: skip
    page = "\n".join(matrix_page(rows, settings, [], "a command"))
    assert "**The network binds**: on average 90.0 of 100.0 ms an image (90.0%)" in page
    assert "does 2.00 (2.00 to 2.40) times the images" in page
    assert "3.00 (3.00 to 3.00) times as a network alone" in page
    assert "NMS takes 8.0%" in page
    assert "| 8     | here     | 10.0 (8.4 to 16.4) | 5.0 (4.2 to 5.8) |" in page
    for batch, speeds in GTX_1080.items():
        assert f"| {batch:<5} | GTX 1080 | {speeds['dct', True]}" in page
    held = {line[0]: line[1:] for line in bars(rows, [], None)[1:]}
    assert held["DCT/RGB, end to end, batch 8: at least 2.0"] == ["2.00 (2.00 to 2.40)", "met"]
    assert held["NMS, of DCT's end-to-end time, batch 8: at most 3%"] == ["8.0%", "MISSED"]


def test_a_setting_measured_twice_is_told_once_and_what_is_as_fast_is_named():
    matrix = Matrix(MODELS[1:], workers=(1, 0, 2), batch_sizes=(8,), coefficients=("native",))
    stages = {"wait": 1.0, "transfer": 1.0, "network": 90.0, "nms": 8.0}
    rows = Rows(
        [
            _row(MODELS[1], "e2e", [9.0, 10.0, 11.0], 1, **stages),
            _row(MODELS[1], "e2e", [50.0, 50.0, 50.0], 1, **stages) | {"block": "varied-8"},  # the same setting
            _row(MODELS[1], "e2e", [9.5, 9.5, 9.5], 0, **stages),
            _row(MODELS[1], "e2e", [5.0, 5.0, 5.0], 2, **stages),
        ],
        matrix,
    )
    (best,) = [line for line in verdict(rows) if "best setting" in line]
    assert best == (
        "- The best setting for `ssd300_vgg16_dct` here: torch, batch 8, 1 worker(s), `native`: 10.0 (9.2 to 10.8) "
        "images/s. No slower than its 10th percentile: torch, batch 8, 0 worker(s), `native`."
    )


def test_workers_are_compared_where_they_took_turns():
    """The base of block 'core-8' ran while the machine was half as fast."""
    stages, varied = {"wait": 1.0, "transfer": 1.0, "network": 90.0, "nms": 8.0}, {"block": "varied-8"}
    rows = Rows(
        [
            _row(MODELS[0], "model", [2.0, 2.0, 2.0], network=480.0) | {"nms": False},
            _row(MODELS[0], "e2e", [2.0, 2.0, 2.0], 1, **stages),
            _row(MODELS[1], "model", [5.0, 5.0, 5.0], network=180.0) | {"nms": False},
            _row(MODELS[1], "e2e", [4.5, 4.5, 4.5], 1, **stages),
            _row(MODELS[1], "model", [10.0, 10.0, 10.0], network=90.0) | {"nms": False} | varied,
            _row(MODELS[1], "e2e", [9.8, 9.8, 9.8], 1, **stages) | varied,
            _row(MODELS[1], "e2e", [9.9, 9.9, 9.9], 2, **stages) | varied,
        ],
        Matrix(MODELS, workers=(1, 0, 2), batch_sizes=(8,), coefficients=("native",)),
    )
    (line,) = [line for line in verdict(rows) if line.startswith("- Workers")]
    assert line.endswith("reaches 0.980 (0.980 to 0.980) with 1, 0.990 (0.990 to 0.990) with 2.")
    assert rows.among_workers(MODELS[1], 8, 1)["samples"] == [9.8, 9.8, 9.8]


def test_what_does_not_fit_the_time_is_left(small, tmp_path, capsys):
    """The base alone, since it tells what the rest will take; the parts that were wanted are named."""
    folder = tmp_path / "study"
    main([*small, "-o", str(folder), "--minutes", "0", "--parts", "prediction", "scaling"])
    assert [p.name for p in (folder / "blocks").iterdir()] == ["core-2.json"]
    assert not (folder / "prediction.json").exists() and not (folder / "scaling.json").exists()
    assert "Not measured yet: scaling, prediction." in (folder / "README.md").read_text()
    assert json.loads((folder / "study.json").read_text())["missing"] == ["scaling", "prediction"]
    assert "no time for scaling, prediction" in capsys.readouterr().err


def test_estimates_by_hand():
    """Images/s of 10 throughout, by `seconds` where that is longer, by the rounds' own time where it is not."""
    networks = {"rgb": SimpleNamespace(config=SimpleNamespace(is_dct=False))}
    points = [*prediction.fitting_points(networks, ("native",)), *prediction.checking_points(networks, ("native",))]
    a_round = sum(max(1.0, point.batch_size / 10) for point in points)
    speeds = {"rgb": 10.0}
    assert prediction.seconds_needed(networks, ("native",), 0, speeds) == pytest.approx(7 * a_round)
    assert prediction.seconds_needed(networks, ("native",), 60, speeds) == pytest.approx(60 * len(points) + 2 * a_round)
    ladder = Ladder((1, 2), threads=(1, 2), workers=(1,), tiles=(1,), batch_size=2)
    batches, one_thread, two_threads, reading = 5 * 0.3, 5 * 2 / 5, 5 * 2 / 10, 1 + 1
    memory = 8 * 3 + 4 * (1 + 2 + 2 * 2) / 10  # batches of 1 and 2, and of 2 on one thread
    with threads_set_to(2):
        needed = scaling.seconds_needed(ladder, 0, 10.0, 1)
    assert needed == pytest.approx(batches + one_thread + two_threads + reading + memory)


def test_files_that_cannot_be_read_are_left_out_and_named(small, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        (images / f"{i}.jpg").write_bytes(jpeg())
    (images / "1.jpg").write_bytes(jpeg()[:300])
    (images / "3.jpg").write_bytes(b"no JPEG")
    arguments = [*small, "--images", str(images), "--minutes", "0"]
    main([*arguments, "-o", str(tmp_path / "study")])
    page, said = (tmp_path / "study" / "README.md").read_text(), capsys.readouterr().err
    assert "(2 of 4 files)" in page
    for name in ("1.jpg", "3.jpg"):
        assert f"- {images / name}: " in page and f"left out: {images / name}: " in said
    for name in ("0.jpg", "2.jpg"):
        (images / name).write_bytes(b"no JPEG either")
    assert run_command(main, [*arguments, "-o", str(tmp_path / "other")]) == 2
    assert "none of 4 JPEGs can be read by all networks" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_pictures_are_spread_over_a_folder(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(picture(seed=i)))
    found = images_from(str(tmp_path), MODELS, ("native",), most=3)
    assert found.jpegs == [(tmp_path / f"{i}.jpg").read_bytes() for i in (0, 3, 6)]
    assert found.what == f"{tmp_path} (3 of 10 files)"


@pytest.mark.parametrize(
    ("costs", "met"), [([100.0, 120.0, 160.0, 240.0], True), ([100.0, 105.0, 120.0, 900.0], False)]
)
def test_growth_is_linear_only_on_a_line(costs, met):
    row = scaling._row(MODELS[1], None, "batch", "MiB above imported libraries, end to end", (1, 2, 4, 8), costs, True)
    held = {
        line[0]: line[2] for line in bars(Rows([_row(MODELS[1], "e2e", [5.0], 1, nms=1)], Matrix(MODELS)), [row], None)
    }
    assert held["its growth with the batch: linear, within 10%"] == ("met" if met else "MISSED")
