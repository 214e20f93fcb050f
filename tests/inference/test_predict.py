"""eval.predict: inputs, outputs, bad files, and, as a process, kill -9."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from jpegdeep_torch.data.coco import coco_results
from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.inference.journal import Journal
from jpegdeep_torch.inference.predictor import Prediction
from jpegdeep_torch.inference.writer import json_list, to_coco, to_json
from tests.shapes import NAMES, run, start

KILLS = int(os.environ.get("JPEGDEEP_KILLS", "1"))  # 10 for the test at full size


def rows_in(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def mixed(dataset, tmp_path_factory) -> Path:
    """The data set's pictures and two bad files among them."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(dataset / "JPEGImages", folder / "JPEGImages")
    shutil.copytree(dataset / "Annotations", folder / "Annotations")
    data = (dataset / "JPEGImages" / "shape_03.jpg").read_bytes()
    (folder / "JPEGImages" / "shape_03_cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "JPEGImages" / "shape_20_empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def whole(mixed, weights, tmp_path_factory) -> Path:
    """The output of an uninterrupted run with everything on."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = run("predict", *arguments(weights, mixed, out))
    assert done.returncode == 0, done.stderr
    assert "shape_03_cut.jpg" in done.stderr and "23 images; 2 could not be read" in done.stderr
    return out


def arguments(weights, mixed, out) -> list[object]:
    return [weights(), mixed / "JPEGImages", "-o", out, "--score", 0.05, "--show-truth", "--sheet", "--format", "coco",
            "--batch-size", 2, "--workers", 1]  # fmt: skip


def test_the_output_of_a_run(whole, mixed):
    rows = rows_in(whole / "detections.jsonl")
    assert [Path(row["file"]).name for row in rows] == sorted(p.name for p in (mixed / "JPEGImages").iterdir())
    assert [Path(row["file"]).stem for row in rows if "error" in row] == ["shape_03_cut", "shape_20_empty"]
    good = [row for row in rows if "error" not in row]
    assert {(row["height"], row["width"]) for row in good} == {(150, 200)}
    found = [item for row in good for item in row["detections"]]
    assert found and all(item["score"] >= 0.05 and item["class"] == NAMES[item["label"] - 1] for item in found)
    results = json.loads((whole / "detections.json").read_text())
    assert len(results) == len(found) and results[0]["image_id"] == "shape_00"
    box = found[0]["box"]
    assert results[0]["bbox"] == pytest.approx([box[0], box[1], box[2] - box[0], box[3] - box[1]])
    pictures = sorted((whole / "pictures").iterdir())
    assert [p.name for p in pictures][:2] == ["000000_shape_00.jpg", "000001_shape_01.jpg"] and len(pictures) == 21
    with Image.open(pictures[0]) as picture:
        assert picture.size == (200 * 2 + 6, 150)  # the annotation beside
    with Image.open(whole / "contact_sheet_001.jpg") as sheet:
        assert sheet.width > 1400 and sheet.height > 900
    assert not list(whole.rglob("*.part")) and not list(whole.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(KILLS))
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(whole, mixed, weights, tmp_path, turn):
    out = tmp_path / "out"
    moment = random.Random(turn)
    kills = 0
    for _ in range(1 + turn % 2):
        process = start("predict", *arguments(weights, mixed, out), start_new_session=True)
        part = out / "detections.jsonl.part"
        wanted = moment.randrange(1, 16)  # lines that must be there, then a random part of a batch's time
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if part.exists() and part.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.002)
        time.sleep(moment.random() * 0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        finished = out / "detections.jsonl"
        if finished.exists():
            assert finished.read_bytes() == (whole / "detections.jsonl").read_bytes()
    process = start("predict", *arguments(weights, mixed, out))
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert kills, "the run ended before it could be killed"
    assert "of an earlier run" in messages
    assert tree(out) == tree(whole)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_run_does_nothing_twice_and_refuses_another_list(whole, mixed, weights, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    again = run("predict", *arguments(weights, mixed, out))
    assert again.returncode == 0 and "22 of an earlier run" in again.stderr and tree(out) == tree(whole)
    other = run("predict", *arguments(weights, mixed, out), "--top", 3)
    assert other.returncode == 2 and "top was None, is 3" in other.stderr and len(other.stderr.splitlines()) == 1
    (mixed / "JPEGImages" / "aaa.jpg").write_bytes(b"")
    try:
        longer = run("predict", *arguments(weights, mixed, out))
        assert longer.returncode == 2 and "a run of other files" in longer.stderr
        anew = run("predict", *arguments(weights, mixed, out), "--overwrite", "--pictures", "none")
        assert anew.returncode == 0 and len(rows_in(out / "detections.jsonl")) == 24
    finally:
        (mixed / "JPEGImages" / "aaa.jpg").unlink()


def test_standard_input_to_standard_output(mixed, weights):
    files = [str(mixed / "JPEGImages" / f"shape_{k:02d}.jpg") for k in (5, 1)]
    selected = ["--score", 0.05, "--top", 2, "--classes", "disc", "bar"]
    done = run("predict", weights(), "-", *selected, stdin="\n".join(files) + "\n")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == files
    assert all(len(row["detections"]) <= 2 for row in rows)
    assert {item["class"] for row in rows for item in row["detections"]} <= {"disc", "bar"}
    done = run("predict", weights(), str(mixed / "JPEGImages" / "shape_0[0-2].jpg"), "--format", "coco", *selected)
    assert {row["image_id"] for row in json.loads(done.stdout)} <= {"shape_00", "shape_01", "shape_02"}


def test_strict_stops_at_a_bad_file_and_mistakes_are_one_line(mixed, weights, tmp_path):
    done = run("predict", weights(), mixed / "JPEGImages", "--strict", "--batch-size", 2)
    assert done.returncode == 2 and "shape_03_cut.jpg" in done.stderr.splitlines()[-1]
    (tmp_path / "empty").mkdir()
    for wrong, words in (
        ([weights(), tmp_path / "empty"], "no JPEG in this folder"),
        ([weights(), str(tmp_path / "*.png")], "fits no file"),
        ([tmp_path / "absent.safetensors", mixed], "no such file"),
        ([weights(), mixed, "--classes", "cow"], "expected some of disc, square, bar"),
        ([weights(), mixed, "--batch-size", 0], "batch size is 0"),
    ):
        done = run("predict", *wrong)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_journal_takes_away_what_was_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Journal(path, 2) as journal:
        journal.append([{"k": 0}, {"k": 1}])
        journal.append([{"k": 2}, {"k": 3}])
    whole = journal.part.read_bytes()
    for cut in range(len(whole) + 1):
        journal.part.write_bytes(whole[:cut])
        with Journal(path, 2) as again:
            rows = list(again.read())
            assert len(rows) == again.lines and len(rows) % 2 == 0
            again.append([{"k": k} for k in range(len(rows), 4)])
        assert journal.part.read_bytes() == whole
    journal.part.write_bytes(whole[:8] + b"\0" * 20 + b"\n")  # what a power cut can leave
    with Journal(path, 2) as again:
        assert again.lines == 0
        again.append([{"k": 9}])
        again.finish()
    assert path.read_bytes() == b'{"k": 9}\n' and not journal.part.exists()


def test_coco_results_are_the_same_from_detections_and_from_lines():
    """`eval coco` makes them of detections, `predict` of its lines: by one rounding, to 0.001 px and 6 decimals."""
    boxes = torch.tensor([[10.12345, 20.5, 30.98765, 40.00049], [0.0004, 0.0006, 99.9996, 50.0]])
    found = {"boxes": boxes, "scores": torch.tensor([0.98765432, 0.5]), "labels": torch.tensor([2, 1])}
    line = to_json(Prediction(0, "photos/000000000139.jpg", found, (60, 100)), ["cat", "dog"])
    assert line["detections"][0] == {
        "label": 2, "class": "dog", "score": 0.987654, "box": [10.123, 20.5, 30.988, 40.0],
    }  # fmt: skip
    expected = [
        {"image_id": 139, "category_id": 18, "bbox": [10.123, 20.5, 20.865, 19.5], "score": 0.987654},
        {"image_id": 139, "category_id": 17, "bbox": [0.0, 0.001, 100.0, 49.999], "score": 0.5},
    ]
    assert coco_results([found], [139], [17, 18]) == expected
    assert to_coco(json.loads(json.dumps(line)), [17, 18]) == expected
    assert to_coco({"file": "a.jpg", "error": "empty"}, [17, 18]) == []
    assert [item["image_id"] for item in to_coco({**line, "file": "x/a1.jpg"}, [17, 18])] == ["a1", "a1"]


def test_a_json_list_is_written_piece_by_piece():
    for parts, text in (([], "[\n]\n"), ([[1], [], [2, {"a": 3}]], '[\n1,\n2,\n{"a": 3}\n]\n')):
        written = []
        with json_list(written.append) as add:
            for part in parts:
                add(part)
        assert "".join(written) == text and json.loads(text) == [item for part in parts for item in part]


def test_settings_are_kept_and_compared(tmp_path):
    from jpegdeep_torch.utils.settings import check_settings

    check_settings(tmp_path / "run.json", {"score": 0.5})
    check_settings(tmp_path / "run.json", {"score": 0.5})
    with pytest.raises(DatasetError, match=r"score was 0\.5, is 0\.4"):
        check_settings(tmp_path / "run.json", {"score": 0.4})
    check_settings(tmp_path / "run.json", {"score": 0.4}, overwrite=True)
