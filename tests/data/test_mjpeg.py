"""Streams of JPEG frames, against a real HTTP server on loopback and against OpenCV's AVI files."""

from __future__ import annotations

import itertools
import time

import cv2
import numpy as np
import pytest

from eval.benchmark.mjpeg_server import parts, served
from jpegdeep_torch.data.mjpeg import LiveFrames, frames_in, is_stream, read_frames
from jpegdeep_torch.errors import StreamError
from tests.jpeg_samples import jpeg, picture

FRAMES = [jpeg(picture(48 + 8 * k, 64)) for k in range(5)]


@pytest.mark.parametrize("lengths", [True, False])
def test_multipart_over_http(lengths):
    with served([parts(FRAMES, lengths)]) as address:
        found = list(read_frames(address))
    assert [f.data for f in found] == FRAMES and [f.number for f in found] == list(range(5))
    assert found[0].time_s == 0 and all(a.time_s <= b.time_s for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("quoted", ['"frame"', "--frame"])
def test_boundaries_as_cameras_write_them(quoted):
    with served([parts(FRAMES[:2])], f"multipart/x-mixed-replace;boundary={quoted}") as address:
        assert [f.data for f in read_frames(address)] == FRAMES[:2]


def test_concatenated_files(tmp_path):
    path = tmp_path / "a.mjpeg"
    path.write_bytes(b"".join(FRAMES))
    assert [f.data for f in read_frames(path)] == FRAMES
    path.write_bytes(b"\x00rubbish".join(FRAMES))
    assert [f.data for f in read_frames(path)] == FRAMES
    path.write_bytes(parts(FRAMES))  # an answer that was saved
    assert [f.data for f in read_frames(path)] == FRAMES


def test_a_thumbnail_is_no_frame():
    inner = jpeg(picture(16, 16))
    thumbnail = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    whole = FRAMES[0][:2] + thumbnail + FRAMES[0][2:]
    assert [f.data for f in frames_in(whole + FRAMES[1])] == [whole, FRAMES[1]]


def test_avi_as_opencv_writes_it(tmp_path):
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    assert writer.isOpened()
    for k in range(7):
        writer.write(np.full((48, 64, 3), 30 * k, np.uint8))
    writer.release()
    found = list(read_frames(path))
    assert len(found) == 7 and [f.time_s for f in found] == pytest.approx([k / 25 for k in range(7)], abs=1e-5)
    for k, frame in enumerate(found):
        pixels = cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == (48, 64, 3) and abs(float(pixels.mean()) - 30 * k) < 2


def test_a_stream_that_breaks_off_ends_with_what_was_read_and_an_error():
    with served([parts(FRAMES[:2], end=False), parts(FRAMES[2:3])[:-200]]) as address:
        found, stream = [], read_frames(address)
        with pytest.raises(StreamError, match="broke off after 2 frames"):
            for frame in stream:
                found.append(frame)
    assert [f.data for f in found] == FRAMES[:2]
    cut = b"".join(FRAMES)[:-10]
    found = []
    with pytest.raises(StreamError, match="broke off after 4 frames"):
        for frame in frames_in(cut):
            found.append(frame)
    assert [f.data for f in found] == FRAMES[:4]


def test_a_server_that_falls_silent():
    with served([parts(FRAMES[:1], end=False), b""], pause_s=3.0) as address:
        stream = read_frames(address, timeout_s=0.5)
        assert next(stream).data == FRAMES[0]
        with pytest.raises(StreamError, match="broke off after 1 frames"):
            next(stream)


def test_the_newest_frame_is_given_and_the_others_are_counted():
    many = [jpeg(picture(48, 64 + 8 * k)) for k in range(20)]
    with served([parts([frame], end=False) for frame in many], pause_s=0.03) as address, LiveFrames(address) as live:
        first = next(live)
        time.sleep(0.3)
        second = next(live)
        assert second.number - first.number >= 3
        rest = list(live)
    numbers = [first.number, second.number, *(frame.number for frame in rest)]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 19
    assert live.dropped == 20 - len(numbers)
    frames = [first, second, *rest]
    assert sum(frame.dropped for frame in frames) == live.dropped and all(frame.live for frame in frames)
    assert all(b.number - a.number == b.dropped + 1 for a, b in itertools.pairwise(frames))


MISTAKES = {
    "text": (b"<html>nothing here</html>", "begins with b'<html>nothin', expected JPEGs, multipart or AVI"),
    "nothing": (b"", "0 bytes, expected JPEG frames"),
    "no boundary": (b"", "has no boundary b'frame'"),
    "another codec": (b"RIFF\x00\x00\x00\x00AVI LIST\x00\x00\x00\x00strlstrh\x04\x00\x00\x00vidsstrf\x14\x00\x00\x00"
                      + bytes(16) + b"H264", "its frames are b'H264', expected MJPG"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    data, expected = MISTAKES[mistake]
    kind = "multipart/x-mixed-replace; boundary=frame" if mistake == "no boundary" else "text/plain"
    with served([data], kind) as address, pytest.raises(StreamError) as error:
        list(read_frames(address))
    assert expected in str(error.value) and str(error.value).startswith(address)


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(StreamError, match="No such file"):
        list(read_frames(tmp_path / "none.avi"))
    with served([]) as address, pytest.raises(StreamError, match="answered 404"):
        list(read_frames(address.replace("video", "other")))
    with pytest.raises(StreamError, match="cannot be opened"):
        list(read_frames("http://127.0.0.1:9/video"))


def test_what_counts_as_a_stream():
    assert is_stream("http://camera/video") and is_stream("a.AVI") and is_stream("a.mjpeg")
    assert not is_stream("a.jpg") and not is_stream(b"RIFF") and not is_stream("folder")
