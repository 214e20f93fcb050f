"""Streams of frames as a source of Detector.stream and of `jpegdeep predict`, from real servers on loopback."""

from __future__ import annotations

import json
import time

import pytest
import torch
from PIL import Image

from eval.benchmark.mjpeg_server import Camera, parts, served
from jpegdeep_torch import Detector
from jpegdeep_torch.data.mjpeg import read_frames
from jpegdeep_torch.errors import JpegError, StreamError
from tests.jpeg_samples import jpeg, picture
from tests.shapes import run

FRAMES = [jpeg(picture(120, 160, seed)) for seed in range(7)]


@pytest.fixture(scope="module")
def detector(weights) -> Detector:
    return Detector.load(weights(), batch_size=3, workers=0)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mjpeg"
    path.write_bytes(b"".join(FRAMES))
    return path


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("workers", [0, 1])
def test_each_frame_of_a_file_between_other_sources(weights, detector, film, workers):
    """In batches, and by worker processes, as other files are."""
    mixed = Detector.load(weights(), batch_size=3, workers=workers)
    found = list(mixed.stream([FRAMES[3], film, FRAMES[5]]))
    expected = detector.predict([FRAMES[3], *FRAMES, FRAMES[5]])
    assert [p.index for p in found] == list(range(9))
    assert [p.frame and p.frame.number for p in found] == [None, *range(7), None]
    assert found[1].name == f"{film}, frame 0" and found[7].frame.data == FRAMES[6] and not found[1].frame.live
    assert all(equal(p.value, value) for p, value in zip(found, expected, strict=True))


def test_what_was_read_of_a_stream_that_breaks_off(detector, film):
    film.write_bytes(b"".join(FRAMES)[:-30])
    found = []
    with pytest.raises(StreamError, match="broke off after 6 frames"):
        for prediction in detector.stream(film):
            found.append(prediction)
    assert [p.frame.number for p in found] == list(range(6))
    chunks = [parts(FRAMES[:1], end=False), parts(FRAMES[1:2])[:-300]]
    found = []
    with served(chunks, pause_s=0.2) as address, pytest.raises(StreamError, match="broke off after 1 frames"):
        for prediction in detector.stream(address):
            found.append(prediction)
    assert [p.frame.number for p in found] == [0] and found[0].frame.live


def test_a_bad_frame_is_reported_with_its_number(detector, film):
    cut = FRAMES[1][:-800] + b"\xff\xd9"
    film.write_bytes(FRAMES[0] + cut + FRAMES[2])
    found = list(detector.stream(film, on_error="report"))
    assert [p.error is None for p in found] == [True, False, True]
    assert found[1].frame.number == 1 and found[1].error.name == f"{film}, frame 1"
    with pytest.raises(JpegError, match="frame 1: "):
        detector.predict(film)


class Slow:
    """An observer that makes the network slow, and notes how many frames have been sent when one has been read."""

    def __init__(self, seconds: float, sent):
        self.seconds, self.sent, self.at_read = seconds, sent, []

    def begin(self, step):
        if step == "forward":
            time.sleep(self.seconds)

    def end(self, step, batch):
        if step == "read" and batch is not None:
            self.at_read.append(self.sent())


def test_a_live_stream_is_not_queued(weights):
    """A network that is five times too slow for the stream: were frames queued, the last would be 50 frames old.

    Counted in frames, so that it holds on a loaded machine: between two frames that are detected so many are dropped
    as come meanwhile, and a frame that is begun with is at most two old (in the median; a process may be held up).
    """
    sent = 0

    def on_sent():
        nonlocal sent
        sent += 1

    chunks = [parts([FRAMES[k % 7]], end=False) for k in range(60)]
    slow = Slow(0.15, lambda: sent)
    detector = Detector.load(weights(), batch_size=8, workers=1, observer=slow)
    ages = []
    with served(chunks, pause_s=0.03, on_sent=on_sent) as address:
        found = []
        for prediction in detector.stream(address):
            found.append(prediction)
            ages.append(sent - slow.at_read[len(found) - 1])  # what came while this one was detected
    numbers = [p.frame.number for p in found]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 59
    assert sum(p.frame.dropped for p in found) + len(found) == 60 and len(found) < 30
    begun = sorted(read - 1 - number for read, number in zip(slow.at_read, numbers, strict=True))
    assert begun[len(begun) // 2] <= 2, begun
    assert [p.frame.time_s for p in found] == sorted(p.frame.time_s for p in found)
    detector = Detector.load(weights(), batch_size=8, workers=0)
    for prediction in found[:3]:
        assert equal(prediction.value, detector.predict(prediction.frame.data)[0])


def test_a_live_stream_from_another_process(detector):
    """A network that keeps up: nearly all frames are detected, each before the next two have come."""
    with Camera(FRAMES, 20, frames_per_s=5) as camera:
        ages, dropped = [], 0
        for prediction in detector.stream(camera.address):
            ages.append(camera.sent - 1 - prediction.frame.number)
            dropped += prediction.frame.dropped
            assert camera.sent_s(prediction.frame.number) <= time.monotonic()
        assert len(ages) + dropped == 20
    assert sorted(ages)[len(ages) // 2] <= 2, ages


def test_every_frame_of_an_address_on_request(detector):
    with served([parts(FRAMES)]) as address:
        found = list(detector.stream(read_frames(address)))
    assert [p.frame.number for p in found] == list(range(7)) and not any(p.frame.live for p in found)


def test_the_command_on_a_file(weights, detector, film, tmp_path):
    arguments = ["predict", weights(), film, "--batch-size", 3, "--workers", 0, "--score", 0.05, "--format", "coco"]
    out = tmp_path / "out"
    done = run(*arguments, "-o", out, "--sheet")
    assert done.returncode == 0 and "7 images; 0 could not be read" in done.stderr, done.stderr
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    assert [(line["file"], line["frame"]) for line in lines] == [(str(film), k) for k in range(7)]
    assert all(line["time_s"] >= 0 and line["height"] == 120 for line in lines)
    assert sorted(p.name for p in (out / "pictures").iterdir())[:2] == [
        "000000_film_000000.jpg", "000001_film_000001.jpg",
    ]  # fmt: skip
    with Image.open(out / "pictures" / "000003_film_000003.jpg") as drawn:
        assert drawn.size == (160, 120)
    ids = {row["image_id"] for row in json.loads((out / "detections.json").read_text())}
    assert ids and ids <= {f"film_{k:06d}" for k in range(7)}
    again = run(*arguments, "-o", out, "--sheet")
    assert again.returncode == 0 and "6 of an earlier run" in again.stderr


def test_the_command_on_a_stream_that_breaks_off(weights, tmp_path):
    chunks = [parts(FRAMES[:1], end=False), parts(FRAMES[1:2], end=False), parts(FRAMES[2:3])[:-300]]
    arguments = ["--pictures", "none", "--workers", 0]
    with served(chunks, pause_s=0.3) as address:
        done = run("predict", weights(), address, "-o", tmp_path / "out", *arguments)
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {address}: broke off after 2")
        lines = [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]
        assert [line["frame"] for line in lines][-1] == 1 and {line["file"] for line in lines} == {address}
        again = run("predict", weights(), address, "-o", tmp_path / "out", *arguments)
        assert (
            len(lines) < 8 or "a run of other files" in again.stderr
        )  # a whole batch is there: it is not gone on with
        printed = run("predict", weights(), address)
        assert printed.returncode == 2 and json.loads(printed.stdout.splitlines()[-1])["frame"] == 1
    none = run("predict", weights(), "http://127.0.0.1:9/video")
    assert none.returncode == 2 and "Traceback" not in none.stderr
    assert none.stderr.splitlines()[-1].startswith("error: http://127.0.0.1:9/video: cannot be opened")


def test_a_live_stream_is_not_gone_on_with(weights, tmp_path):
    with served([parts(FRAMES)]) as address:
        arguments = ["predict", weights(), address, "-o", tmp_path / "out", "--batch-size", 1, "--pictures", "none"]
        assert run(*arguments).returncode == 0
        again = run(*arguments)
        assert again.returncode == 2 and "holds a run of other files" in again.stderr
        assert run(*arguments, "--overwrite").returncode == 0
