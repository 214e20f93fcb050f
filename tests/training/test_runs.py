"""Whole runs: cut off and gone on with, in two processes, and what is left behind."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file

from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import CheckpointError
from jpegdeep_torch.training.config import load_config
from jpegdeep_torch.training.datasets import TrainingData
from jpegdeep_torch.training.run_folder import RunFolder, read_log
from jpegdeep_torch.training.trainer import Trainer
from jpegdeep_torch.weights import WeightsInfo, read_info
from tests.training.make_dataset import CLASSES, make_voc
from tests.training.runs import ENVIRONMENT, ROOT, TINY, command, train, write_config


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
    assert (info.preset, info.coefficients) == ("voc", "native")
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


@pytest.mark.slow
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
@pytest.mark.slow
@pytest.mark.parametrize(("model", "rate"), [("ssd300_vgg16_dct", 1e-4), ("ssd300_vgg16", 1e-6)])
def test_two_processes_learn_as_one_with_twice_the_batch(data, tmp_path, model, rate):
    config = write_config(tmp_path, data)
    shared = [
        "--set", f"model.name={model}", f"data.coefficients={'native' if 'dct' in model else 'pixels'}",
        "run.steps_per_epoch=20",
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


@pytest.mark.slow
def test_weights_say_how_their_coefficients_came(data, tmp_path):
    config = write_config(tmp_path, data)
    for model, coefficients, expected in (("vgg16_dct", "reencode", "reencode"), ("vgg16_dct", "pixels", "reencode"),
                                 ("vgg16", "pixels", None)):  # fmt: skip
        output = tmp_path / f"{model} {coefficients}"
        changes = [
            f"model.name=ssd300_{model}",
            f"data.coefficients={coefficients}",
            "run.epochs=1",
            "run.steps_per_epoch=1",
        ]
        done = train(config, output, "--set", *changes)
        assert done.returncode == 0, done.stderr
        assert read_info(output / "last.safetensors").coefficients == expected
    held = read_info(output / "last.safetensors").to_metadata() | {"coefficients": "neither"}
    with pytest.raises(CheckpointError, match="unknown coefficients 'neither', expected"):
        WeightsInfo.from_metadata(held, "f")


@pytest.mark.slow
def test_a_run_stopped_early_stays_as_it_is(data, tmp_path):
    config = write_config(tmp_path, data)
    changes = ["--set", "run.epochs=6", "schedule.stop_after=1", "optimizer.learning_rate=1e-9"]
    done = train(config, tmp_path / "run", *changes)
    assert done.returncode == 0 and "stopped: 1 evaluations without gain" in done.stdout, done.stderr
    kept = {name: (tmp_path / "run" / name).read_bytes() for name in ("state.pt", "last.safetensors", "log.jsonl")}
    done = train(config, tmp_path / "run", "--resume", *changes)
    assert done.returncode == 0 and "stopped: 1 evaluations without gain" in done.stdout, done.stderr
    assert all((tmp_path / "run" / name).read_bytes() == content for name, content in kept.items())


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of the whole run, to go on with: (configuration, folder)."""
    config, folder = whole
    shutil.copytree(folder, tmp_path / "copy")
    return config, tmp_path / "copy"


@pytest.mark.slow
def test_a_run_is_not_gone_on_with_by_another_number_of_processes(copied):
    config, folder = copied
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["world_size"] == 1
    torch.save(state | {"world_size": 2}, folder / "state.pt")
    done = train(config, folder, "--resume")
    assert done.returncode == 2 and "holds a run of 2 processes, got 1, expected as many" in done.stderr
    torch.save({k: v for k, v in state.items() if k != "world_size"}, folder / "state.pt")  # as older runs' are
    assert train(config, folder, "--resume").returncode == 0


@pytest.mark.slow
def test_a_damaged_state_is_named_in_one_line(copied):
    config, folder = copied
    whole_state = (folder / "state.pt").read_bytes()
    other = io.BytesIO()
    torch.save({"step": 3}, other)
    for content in (b"", b"garbage", whole_state[:1000], whole_state[:-1000], other.getvalue()):
        (folder / "state.pt").write_bytes(content)
        done = train(config, folder, "--resume")
        lines = [line for line in done.stderr.splitlines() if "error: " in line]
        assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
        assert lines[0].startswith(f"error: {folder / 'state.pt'}: ") and lines[0].endswith("the state of a run")


@pytest.mark.slow
def test_the_weights_that_a_run_began_with_may_be_gone_when_it_is_gone_on_with(whole, data, tmp_path):
    _, folder = whole
    weights = tmp_path / "weights.safetensors"
    shutil.copy(folder / "last.safetensors", weights)
    config = write_config(tmp_path, data, TINY.replace("scale_to_data = true", ""))
    steps = ["--set", "run.steps_per_epoch=1"]
    done = train(config, tmp_path / "run", "--init", str(weights), *steps)
    assert done.returncode == 0 and "tensors taken from" in done.stdout, done.stderr
    weights.unlink()
    held = (tmp_path / "run" / "config.toml").read_text()
    for init in ([], ["--init", str(weights)]):
        done = train(config, tmp_path / "run", "--resume", *init, *steps)
        assert done.returncode == 0 and "going on after step 2 of 2" in done.stdout, done.stderr
        assert (tmp_path / "run" / "config.toml").read_text() == held and str(weights) in held
    done = train(config, tmp_path / "run", "--resume", "--init", str(folder / "last.safetensors"), *steps)
    assert done.returncode == 2 and "model.init: there" in done.stderr
    (tmp_path / "run" / "state.pt").unlink()
    done = train(config, tmp_path / "run", "--resume", *steps)
    assert done.returncode == 2 and "model.init: there" in done.stderr


def test_weights_taken_from_a_file_are_not_scaled(whole, data, tmp_path):
    """The command refuses such a configuration; a Trainer made in Python keeps the weights."""
    _, folder = whole
    config = load_config(write_config(tmp_path, data))
    settings = dataclasses.replace(config.model, init=str(folder / "last.safetensors"))
    config = dataclasses.replace(config, model=settings)
    images = read_voc(data, "train", CLASSES)
    run = RunFolder(tmp_path / "run", config, resume=False, writes=True)
    trainer = Trainer(config, TrainingData(images, None, CLASSES, []), run, torch.device("cpu"))
    expected = load_file(folder / "last.safetensors")
    found = trainer.model.state_dict()
    assert config.model.scale_to_data and all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_batch(data, tmp_path):
    config = write_config(tmp_path, data)
    done = train(config, tmp_path / "run", "--set", "optimizer.learning_rate=1e30", "optimizer.clip_norm=0.0")
    assert done.returncode == 2 and "expected a finite number" in done.stderr and "bad_batch.pt" in done.stderr
    batch = torch.load(tmp_path / "run" / "bad_batch.pt", weights_only=True)
    assert len(batch["names"]) == len(batch["inputs"][0]) == 4 and batch["boxes"].shape[2] == 4
    assert not (tmp_path / "run" / "state.pt").exists()


@pytest.mark.slow
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
