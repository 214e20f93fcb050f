"""Whole runs: cut off and gone on with, in two processes, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file

from jpegdeep_torch.training.run_folder import read_log
from jpegdeep_torch.weights import read_info

from .make_dataset import CLASSES, make_voc
from .runs import ENVIRONMENT, ROOT, command, train, write_config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("data") / "voc")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run to the end: (configuration, its folder)."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, data)
    done = train(config, folder / "run")
    assert done.returncode == 0, done.stderr
    return config, folder / "run"


def test_a_run_s_folder_holds_everything(whole):
    _, folder = whole
    names = {path.name for path in folder.iterdir()}
    assert {"config.toml", "versions.json", "log.jsonl", "best.safetensors", "last.safetensors", "state.pt"} <= names
    assert not [name for name in names if name.startswith(".")]
    steps = read_log(folder, "step")
    assert [row["step"] for row in steps] == list(range(1, 9))
    assert steps[0]["learning_rate"] == pytest.approx(0.01) and steps[-1]["learning_rate"] < 0.001
    assert {"loss", "class_loss", "box_loss", "images_per_s", "data_wait", "gradient_norm"} <= steps[0].keys()
    assert [row["epoch"] for row in read_log(folder, "evaluation")] == [1, 2]
    info = read_info(folder / "best.safetensors")
    assert (info.model, info.width, info.class_names) == ("ssd300_vgg16_dct", 0.03, CLASSES)
    assert json.loads((folder / "versions.json").read_text())["versions"]["torch"] in torch.__version__


def test_tensorboard_has_the_same_figures(whole):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, folder = whole
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("step/loss")]
    assert shown == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in read_log(folder, "step")]
    assert {"evaluation/mAP", "AP/disc", "epoch/images_per_s"} <= set(events.Tags()["scalars"])


def test_killed_and_gone_on_with_it_ends_with_the_same_weights(whole, tmp_path):
    config, folder = whole
    line = command(config, tmp_path / "run", "--set", "run.save_steps=1", "data.workers=1")
    process = subprocess.Popen(
        line, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    log, state = tmp_path / "run" / "log.jsonl", tmp_path / "run" / "state.pt"
    deadline = time.monotonic() + 120
    while not (state.is_file() and log.read_text().count('"step"') >= 5):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed_after = torch.load(state, weights_only=True)["step"]
    assert 0 < killed_after < 8
    with open(log, "a", encoding="utf-8") as file:
        file.write('{"kind": "step", "st')  # cut short in the middle of a line
    done = train(config, tmp_path / "run", "--resume", "--set", "run.save_steps=1", "data.workers=1")
    assert done.returncode == 0, done.stderr
    assert f"going on after step {killed_after} of 8" in done.stdout
    for name in ("last.safetensors", "best.safetensors"):
        expected, found = load_file(folder / name), load_file(tmp_path / "run" / name)
        assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("images_per_s", "data_wait")} for row in read_log(path, "step")]
        for path in (folder, tmp_path / "run")
    ]
    assert timeless[0] == timeless[1]


def test_a_folder_with_a_run_is_not_written_over(whole, data, tmp_path):
    config, folder = whole
    before = (folder / "log.jsonl").read_bytes()
    for arguments, said in (
        ((), "holds a run already"),
        (("--resume", "--set", "run.seed=5"), "run.seed: there 0, now 5"),
    ):
        done = train(config, folder, *arguments)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "notes.txt").write_text("mine")
    done = train(config, tmp_path)
    assert done.returncode == 2 and "holds other files" in done.stderr
    assert (folder / "log.jsonl").read_bytes() == before


# Fresh weights amplify the last bit: at 5e-4 one process on two threads in place of one is 8e-4 apart, as two processes
# are.  At these rates both stay below 1e-4, and gradients of half the size would show as 1 and 0.1.
@pytest.mark.parametrize(("model", "rate"), [("ssd300_vgg16_dct", 1e-4), ("ssd300_vgg16", 1e-6)])
def test_two_processes_learn_as_one_with_twice_the_batch(data, tmp_path, model, rate):
    config = write_config(tmp_path, data)
    shared = [
        "--set", f"model.name={model}", f"data.way={'dct' if 'dct' in model else 'pixels'}", "run.steps_per_epoch=20",
        "run.epochs=1", "run.evaluate_every=0", "model.width=0.03", "run.ema=0.0", f"optimizer.learning_rate={rate}",
    ]  # fmt: skip
    curves = []
    for processes, size in ((1, 4), (2, 2)):
        output = tmp_path / f"run_{processes}"
        done = train(config, output, *shared, f"run.batch_size={size}", processes=processes)
        assert done.returncode == 0, done.stderr
        curves.append([row["loss"] for row in read_log(output, "step")])
    assert len(curves[0]) == 20 and curves[0][-1] != curves[0][0]
    assert curves[1] == pytest.approx(curves[0], abs=1e-4, rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_batch(data, tmp_path):
    config = write_config(tmp_path, data)
    done = train(config, tmp_path / "run", "--set", "optimizer.learning_rate=1e30", "optimizer.clip_norm=0.0")
    assert done.returncode == 2 and "expected a finite number" in done.stderr and "bad_batch.pt" in done.stderr
    batch = torch.load(tmp_path / "run" / "bad_batch.pt", weights_only=True)
    assert len(batch["names"]) == len(batch["inputs"][0]) == 4 and batch["boxes"].shape[2] == 4
    assert not (tmp_path / "run" / "state.pt").exists()


def test_everything_wrong_with_the_data_is_said_before_any_work(data, tmp_path):
    config = write_config(tmp_path, data)
    cases = [
        (["data.classes=['disc', 'circle']"], ["unknown class, expected one of disc, circle"]),
        (["data.train=[{root='nowhere', set='a'}]", "data.evaluate=[{root='neither', set='b'}]"],
         ["2 mistakes", "neither: no such folder", "nowhere: no such folder"]),
        ([f"data.train=[{{root='{data}', set='trian'}}]", f"data.evaluate=[{{root='{data}', set='tset'}}]"],
         ["2 mistakes", "trian.txt: no such image set", "tset.txt: no such image set"]),
    ]  # fmt: skip
    for changes, parts in cases:
        done = train(config, tmp_path / "run", "--set", *changes)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert all(part in done.stderr for part in parts), done.stderr
        assert not (tmp_path / "run").exists()
