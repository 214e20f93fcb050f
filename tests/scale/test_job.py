"""Jobs over shards: the same rows in any company, in any number of processes, and after kill -9 at any moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from jpegdeep_torch import Detector, predict_shards
from jpegdeep_torch.cli.main import main
from jpegdeep_torch.errors import DatasetError
from jpegdeep_torch.inference.writer import Selection
from tests.scale.shards import finish, results, samples, start, write_shards, write_tar

pytest.importorskip("pyarrow", reason="the extra 'scale' is not installed")
import pyarrow.parquet as pq

KILLS = int(os.environ.get("JPEGDEEP_KILLS", "3"))  # 20 for the test at full size
SHARDS, EACH = 6, 12
SCORE = 0.05


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, SHARDS, EACH)
    return folder


@pytest.fixture(scope="module")
def undisturbed(shards, weights, tmp_path_factory) -> Path:
    """One process's results."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert main(["predict", *map(str, arguments(shards, weights, out))]) == 0
    return out


def arguments(shards, weights, out) -> list[object]:
    return [weights(), f"{shards}/shard-{{0000..{SHARDS - 1:04d}}}.tar", "-o", out, "--score", SCORE, "--workers", 0,
            "--device", "cpu", "--batch-size", 4]  # fmt: skip


def test_the_rows_are_the_detectors(undisturbed, weights):
    """Of batches of four that are filled up: a batch of one may differ in the last bits."""
    detector = Detector.load(weights(), batch_size=4, workers=0)
    files, selection, errors, classes = samples(SHARDS * EACH), Selection(SCORE), Counter(), Counter()
    tables = [pq.read_table(undisturbed / f"shard-{k:04d}.parquet").to_pylist() for k in range(SHARDS)]
    assert [len(table) for table in tables] == [EACH] * SHARDS
    rows = [row for table in tables for row in table]
    assert [row["file"] for row in rows] == [name for name, _ in files]
    read = {p.index: p for p in detector.stream([data for _, data in files], on_error="report")}
    good = [k for k, prediction in read.items() if prediction.error is None]
    whole = good[len(good) % 4 :]  # no batch is smaller
    values = dict(zip(whole, detector.predict([files[k][1] for k in whole]), strict=True))
    for k, row in enumerate(rows):
        error = read[k].error
        if error is not None:
            assert row["error"] == error.reason and row["height"] is None and row["boxes"] == []
            errors[row["error"]] += 1
            continue
        assert row["error"] is None and (row["height"], row["width"]) == (90 + 8 * (k % 5), 120)
        classes.update(detector.class_names[label - 1] for label in row["labels"])
        if k in values:
            value = selection(values[k])
            assert torch.equal(torch.tensor(row["boxes"]).reshape(-1, 4), value["boxes"])
            assert torch.equal(torch.tensor(row["scores"]), value["scores"])
            assert row["labels"] == value["labels"].tolist()
    assert len(values) > len(good) - 4
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["files"] == SHARDS * EACH and summary["errors"] == sum(errors.values()) == 10
    assert sum(summary["errors_by_kind"].values()) == 10 and summary["detections_by_class"] == dict(classes)
    assert sum(summary["scores"]["counts"]) == sum(classes.values()) > 100 and summary["shards_missing"] == []
    assert summary["scores"]["counts"][0] == 0  # the least score is 0.05


@pytest.mark.parametrize(("batch", "workers", "part"), [(4, 1, None), (4, 0, (1, 2)), (4, 0, (0, 2))])
def test_workers_and_parts_change_nothing(shards, undisturbed, weights, tmp_path, batch, workers, part):
    detector = Detector.load(weights(), batch_size=batch, workers=workers)
    chosen = [str(shards / f"shard-{k:04d}.tar") for k in (4, 0, 3)]
    done = predict_shards(detector, chosen, str(tmp_path), selection=Selection(SCORE), part=part)
    expected, whole = chosen if part is None else chosen[part[0] :: 2], results(undisturbed)
    assert done.shards == len(expected) and done.rows.files == EACH * len(expected) and not done.failed
    found = results(tmp_path)
    assert {name: whole[name] for name in found} == found and len(found) == len(expected)
    left = predict_shards(detector, chosen, str(tmp_path), selection=Selection(SCORE), part=(0, 1))
    assert left.done_before == len(expected) and len(results(tmp_path)) == 3


def test_a_folder_is_a_shard(weights, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for name, data in samples(9):
        (tmp_path / "photos" / name).write_bytes(data)
    write_tar(tmp_path / "same.tar", samples(9))
    words = ["--format", "parquet", "--score", "0.05", "--workers", "0"]
    inputs = [str(tmp_path / "photos"), str(tmp_path / "same.tar")]
    assert main(["predict", str(weights()), *inputs, "-o", str(tmp_path / "out"), *words]) == 0
    assert "2 shards; 18 files, 2 could not be read" in capsys.readouterr().err
    a, b = (pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("photos", "same"))
    assert a.equals(b) and a.num_rows == 9


def test_a_shard_that_is_missing_or_damaged_is_named(shards, weights, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for k in (0, 1, 3):
        shutil.copy(shards / f"shard-{k:04d}.tar", tmp_path / "in")
    cut = tmp_path / "in" / "shard-0001.tar"
    cut.write_bytes(cut.read_bytes()[:15000])
    words = ["predict", str(weights()), f"{tmp_path}/in/shard-{{0000..0003}}.tar", "-o", str(tmp_path / "out"),
             "--workers", "0", "--score", "0.05"]  # fmt: skip
    assert main(words) == 1
    told = capsys.readouterr().err
    assert f"error: {tmp_path}/in/shard-0002.tar: no such file" in told
    assert f"error: {tmp_path}/in/shard-0001.tar: " in told
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["shards_missing"] == ["shard-0001", "shard-0002"] and summary["files"] == 2 * EACH
    assert sorted(results(tmp_path / "out")) == ["shard-0000.parquet", "shard-0003.parquet"]
    for k in (1, 2):  # put right, the job goes on
        shutil.copy(shards / f"shard-{k:04d}.tar", tmp_path / "in")
    before = results(tmp_path / "out")
    assert main(words) == 0 and "2 of them done before; 24 files" in capsys.readouterr().err
    assert results(tmp_path / "out").items() >= before.items() and len(results(tmp_path / "out")) == 4


def test_mistakes(shards, weights, tmp_path, undisturbed):
    detector = Detector.load(weights(), workers=0)
    tar = str(shards / "shard-0000.tar")
    with pytest.raises(DatasetError, match="holds a job with other settings"):
        main(["predict", *map(str, arguments(shards, weights, undisturbed)), "--top", "3"])
    for words, message in (
        ([tar], "they need -o"), ([tar, "-o", str(tmp_path), "--sheet"], "do not go with shards"),
        ([tar, "-o", str(tmp_path), "--strict"], "do not go with shards"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            main(["predict", str(weights()), *words])
    pq.write_table(pq.read_table(undisturbed / "shard-0000.parquet"), tmp_path / "in.parquet")
    with pytest.raises(DatasetError, match="has the shards themselves"):
        predict_shards(detector, [str(tmp_path / "in.parquet")], str(tmp_path))


@pytest.mark.slow
def test_torchrun_writes_what_one_process_writes(shards, undisturbed, weights, tmp_path):
    status, said = finish(start(*arguments(shards, weights, tmp_path / "out"), processes=2))
    assert status == 0, said
    assert results(tmp_path / "out") == results(undisturbed)
    assert (tmp_path / "out" / "summary.json").read_bytes() == (undisturbed / "summary.json").read_bytes()
    assert "3 shards [0 of 2]; 36 files" in said and "3 shards [1 of 2]; 36 files" in said


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on(shards, undisturbed, weights, tmp_path):
    """The main process with its workers, or all of torchrun's, when some shards are there and some are not."""
    out, moment, kills = tmp_path / "out", random.Random(3), 0
    for turn in range(KILLS):
        process = start(*arguments(shards, weights, out), "--workers", turn % 2, processes=2 * (turn % 3 == 2))
        wanted = len(results(out)) + moment.randrange(0, 2)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and len(results(out)) < max(1, wanted):
            time.sleep(0.002)
        time.sleep(moment.random() * 0.2)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        finish(process)
        whole = results(undisturbed)
        assert {name: whole[name] for name in results(out)} == results(out)  # whole, or not there
    status, said = finish(start(*arguments(shards, weights, out)))
    assert status == 0 and kills, said
    assert results(out) == results(undisturbed)
    assert (out / "summary.json").read_bytes() == (undisturbed / "summary.json").read_bytes()
    left_over = {path.name for path in out.iterdir()} - set(results(out)) - {"run.json", "summary.json"}
    assert not left_over
