"""What stops a run, and what it leaves behind: pictures that cannot be read, numbers that are none, other processes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from PIL import Image

from jpegdeep_torch.cli.train import main as training
from jpegdeep_torch.data.loader import batch_loader
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import ConfigError, DatasetError, JpegError
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from jpegdeep_torch.training.augmentation import AugmentationConfig
from jpegdeep_torch.training.report import Callbacks
from jpegdeep_torch.training.run import train as run_training
from jpegdeep_torch.training.run_folder import read_log
from jpegdeep_torch.training.samples import DetectionSamples, ReturningErrors, TrainingBatch
from tests.training.make_dataset import CLASSES, make_voc
from tests.training.runs import TINY, train, write_config

WEIGHTS = {"best.safetensors", "last.safetensors", "state.pt"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("data") / "voc")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Like `data`, but for the middle of image_5, which is gone: its header and its end are whole."""
    root = make_voc(tmp_path_factory.mktemp("damaged") / "voc")
    path = root / "JPEGImages" / "image_5.jpg"
    path.write_bytes(path.read_bytes()[:2000] + b"\xff\xd9")
    return root


def own_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "error: " in line]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_workers_come_as_they_are(data, tmp_path, workers):
    images = read_voc(data, "train", CLASSES)
    (tmp_path / "short.jpg").write_bytes(images[0].path.read_bytes()[:1000])
    images[1] = dataclasses.replace(images[1], path=tmp_path / "short.jpg")
    images[2] = dataclasses.replace(images[2], height_px=111)
    samples = DetectionSamples(
        images, model_config("ssd300_vgg16_dct"), get_preset("voc"), augmentation=AugmentationConfig.none()
    )
    keys = [[(0, 0)], [(1, 0)], [(2, 0)], [(3, 0)]]
    found = list(batch_loader(ReturningErrors(samples), keys, workers, torch.device("cpu")))
    assert [type(item) for item in found] == [TrainingBatch, JpegError, DatasetError, TrainingBatch]
    assert str(found[1]).startswith(f"{tmp_path / 'short.jpg'}: ") and "expected 320x111" in str(found[2])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named_in_one_line(damaged, tmp_path, workers):
    config = write_config(tmp_path, damaged, TINY.replace("workers = 0", f"workers = {workers}"))
    done = train(config, tmp_path / "run", "--set", "run.epochs=4", module="tests.training.headers_alone")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = own_lines(done.stderr)
    assert line.startswith(f"error: {damaged / 'JPEGImages' / 'image_5.jpg'}: ") and len(line) < 300
    with pytest.raises(ConfigError, match=r"1 mistakes: 1 x unusable picture: .*image_5\.jpg: "):
        training([str(config), "-o", str(tmp_path / "other")])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lenient_run_goes_on_without_pictures_that_went_bad(tmp_path, workers):
    """After they were looked at: in training another is read, in the evaluation none.  Each is said once."""
    root, said = make_voc(tmp_path / "voc"), []
    changes = {"data": {"workers": workers, "lenient": True}, "run": {"ema": 0.0}}

    def spoil(done: int, last: int) -> None:
        pictures = root / "JPEGImages"
        (pictures / "image_2.jpg").write_bytes((pictures / "image_2.jpg").read_bytes()[:3000])
        Image.new("RGB", (320, 240)).save(pictures / "image_3.jpg", "PNG")
        (pictures / "image_6.jpg").unlink()

    callbacks = Callbacks(said.append, begin=spoil)
    done = run_training(write_config(tmp_path, root), output=tmp_path / "run", changes=changes, callbacks=callbacks)
    left_out = [line for line in said if line.startswith("left out: ")]
    assert len(left_out) == 3 and said[-1] == "3 pictures could not be read"
    for name, why in (("image_2", "truncated"), ("image_3", "not a JPEG, but a PNG"), ("image_6", "No such file")):
        assert any(f"{name}.jpg: " in line and why in line for line in left_out), left_out
    assert len(read_log(done.folder, "step")) == 8 and math.isfinite(done.figures["mAP"])


def test_in_the_place_of_a_bad_picture_the_next_is_read(damaged):
    images = read_voc(damaged, "train", CLASSES)
    config, preset = model_config("ssd300_vgg16_dct"), get_preset("voc")
    samples = DetectionSamples(images, config, preset, augmentation=AugmentationConfig(), lenient=True)
    batch, other = samples.__getitems__([(4, 1), (5, 7)]), samples.__getitems__([(6, 7)])
    assert batch.names == ["image_4", "image_6"] and batch.keys == [(4, 1), (5, 7)]
    assert [text.split(": ")[0] for text in batch.left_out] == [str(images[5].path)] and not other.left_out
    assert all(torch.equal(mine[1], one[0]) for mine, one in zip(batch.inputs, other.inputs))
    only = DetectionSamples(images[5:6], config, preset, augmentation=AugmentationConfig(), lenient=True)
    with pytest.raises(JpegError, match=r"image_5\.jpg"):  # there is no other
        only.__getitems__([(0, 1)])


@pytest.mark.slow
def test_whichever_process_meets_it_the_picture_is_named(damaged, tmp_path):
    """Seeds deal the picture out to one process or the other; both end, with nothing else to say."""
    config = write_config(tmp_path, damaged)
    prefixes = set()
    for seed in range(4):
        done = train(
            config, tmp_path / f"run_{seed}", "--set", "run.batch_size=2", f"run.seed={seed}",
            "model.scale_to_data=false", processes=2, module="tests.training.headers_alone",
        )  # fmt: skip
        (line,) = own_lines(done.stderr)
        assert f"{damaged / 'JPEGImages' / 'image_5.jpg'}: " in line
        assert done.stderr.count("Traceback") == 1  # torchrun's own
        prefixes.add("rank 1: " in line)
        if len(prefixes) == 2:
            break
    assert prefixes == {True, False}


def test_what_the_first_process_refuses_ends_the_others_without_a_word(data, tmp_path):
    config = write_config(tmp_path, data)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    done = train(config, tmp_path / "run", processes=2)
    assert done.returncode != 0 and done.stderr.count("Traceback") == 1  # torchrun's own
    (line,) = own_lines(done.stderr)
    assert "holds other files" in line and "rank 1" not in line


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (["optimizer.learning_rate=1e30", "run.steps_per_epoch=1"], "the weights' norm is inf"),
        (["optimizer.learning_rate=1e30", "run.save_steps=1"], "the weights' norm is inf"),
        (["optimizer.learning_rate=1e7", "run.steps_per_epoch=1"], "the validation loss after it is nan"),
    ],
)
def test_weights_that_are_no_numbers_are_never_written(data, tmp_path, changes, what):
    config = write_config(tmp_path, data, TINY.replace("clip_norm = 5.0", "").replace("ema = 0.9", ""))
    done = train(config, tmp_path / "run", "--set", *changes)
    assert done.returncode == 2, done.stderr
    (line,) = own_lines(done.stderr)
    assert "step 1: " in line and what in line and "bad_batch.pt" in line
    assert not WEIGHTS & {path.name for path in (tmp_path / "run").iterdir()}
    batch = torch.load(tmp_path / "run" / "bad_batch.pt", weights_only=True)
    assert batch["step"] == 0 and batch["names"][0] in line


@pytest.mark.slow
def test_each_process_saves_the_batch_that_it_is_to_blame_for(data, tmp_path):
    config = write_config(tmp_path, data, TINY.replace("clip_norm = 5.0", ""))
    done = train(config, tmp_path / "run", "--set", "run.batch_size=2", "optimizer.learning_rate=1e30", processes=2)
    assert done.returncode != 0
    lines = own_lines(done.stderr)
    assert len(lines) == 2 and sum("rank 1: step 1: " in line for line in lines) == 1, done.stderr
    names = [
        torch.load(tmp_path / "run" / name, weights_only=True)["names"] for name in ("bad_batch.pt", "bad_batch_1.pt")
    ]
    assert len(names[0]) == len(names[1]) == 2 and not set(names[0]) & set(names[1])


@pytest.mark.slow
def test_the_log_is_json_where_a_class_has_no_objects(data, tmp_path):
    discs = make_voc(tmp_path / "discs", count=2)
    for path in (discs / "Annotations").iterdir():
        path.write_text(path.read_text().replace("square", "disc"))
    config = write_config(tmp_path, data)
    changes = ["run.epochs=1", "run.steps_per_epoch=1", f"data.evaluate=[{{root='{discs.as_posix()}', set='test'}}]"]
    done = train(config, tmp_path / "run", "--set", *changes)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "run" / "log.jsonl").read_text()
    assert '"AP/square": null' in text and "NaN" not in text
    (row,) = read_log(tmp_path / "run", "evaluation")
    assert math.isnan(row["AP/square"]) and math.isfinite(row["mAP"])
