"""`jpegdeep serve` as a process on loopback: right answers, requests gathered, and hostile ones survived."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jpegdeep_torch import Detector
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.serve import main
from tests.browser import open_browser
from tests.jpeg_samples import jpeg, picture

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("multipart")

SCORE = 0.02
PATH = "/v1/vision/detection"


@pytest.fixture(scope="module")
def weights(weights) -> Path:
    """A narrow detector's file."""
    return weights("ssd300_vgg16_dct")


@contextlib.contextmanager
def serving(weights: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port."""
    line = [sys.executable, "-m", "jpegdeep_torch", "serve", weights, "--port", 0, "--score", SCORE, "--threads", 1]
    process = subprocess.Popen(
        [str(word) for word in (*line, *options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found, said + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(weights) -> Iterator[int]:
    with serving(weights, "--timeout", 2, "--max-upload-mb", 1) as (_, port):
        yield port


def form(data: bytes, **fields: str) -> tuple[bytes, str]:
    """A multipart form as DeepStack's clients send it -> (body, content type)."""
    parts = [f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    head = b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"".join(b"--XyZ\r\n" + part + b"\r\n" for part in (*parts, head + data)) + b"--XyZ--\r\n"
    return body, "multipart/form-data; boundary=XyZ"


def post(port: int, body: bytes, kind: str = "image/jpeg", path: str = PATH) -> tuple[int, dict]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_form_gets_what_the_detector_finds(port, weights):
    data = jpeg(picture(200, 320, seed=5))
    (expected,) = Detector.load(weights, threshold=SCORE, workers=0).predict([data])
    status, answer = post(port, *form(data))
    assert status == 200 and answer["success"] is True and answer["image"] == {"width": 320, "height": 200}
    kept = expected["scores"] >= SCORE
    assert 0 < kept.sum() == answer["count"] == len(answer["predictions"])
    for found, box, score in zip(answer["predictions"], expected["boxes"][kept], expected["scores"][kept]):
        assert [found[key] for key in ("x_min", "y_min", "x_max", "y_max")] == [round(v) for v in box.tolist()]
        assert found["confidence"] == pytest.approx(score.item(), abs=1e-5) and isinstance(found["label"], str)
    assert set(answer["stages_ms"]) == {"receive", "read", "wait", "network", "nms"}


def test_the_body_itself_may_be_the_jpeg_and_a_client_sets_the_score(port):
    data = jpeg(picture(seed=6))
    body, kind = form(data, min_confidence="0.05")
    strict = post(port, body, kind)[1]
    assert strict["count"] < post(port, data)[1]["count"]
    assert all(found["confidence"] >= 0.05 for found in strict["predictions"])
    assert post(port, data, path=PATH + "?min_confidence=0.05")[1]["count"] == strict["count"]


def test_requests_that_wait_are_detected_together(port):
    files = [jpeg(picture(seed=seed)) for seed in range(24)]
    alone = [post(port, data)[1]["predictions"] for data in files]
    with ThreadPoolExecutor(12) as clients:
        answers = [answer for _, answer in clients.map(lambda data: post(port, data), files)]
    assert max(answer["batch_size"] for answer in answers) > 1
    for found, expected in zip(answers, alone):  # a batch's sums are of another order
        assert [p["label"] for p in found["predictions"][:3]] == [p["label"] for p in expected[:3]]


@pytest.mark.parametrize(
    ("body", "kind", "status", "word"),
    [
        (b"", "image/jpeg", 400, "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "image/png", 400, "PNG"),
        (jpeg()[:300], "image/jpeg", 400, "the picture"),
        (b"no form", "multipart/form-data; boundary=XyZ", 400, "form"),
        (b"no form", "multipart/form-data", 400, "form"),
        (form(b"")[0].replace(b'filename="a.jpg"', b"x=y"), "multipart/form-data; boundary=XyZ", 400, "image"),
        (form(jpeg(), min_confidence="nan")[0], "multipart/form-data; boundary=XyZ", 400, "min_confidence"),
        (bytes(2**20 + 1), "image/jpeg", 413, "1 MiB"),
    ],
)
def test_a_bad_request_gets_one_line(port, body, kind, status, word):
    got, answer = post(port, body, kind)
    assert got == status and answer["success"] is False and answer["code"] == status
    assert word in answer["error"] and "\n" not in answer["error"] and "Traceback" not in answer["error"]


def test_a_chunked_body_has_the_same_limit(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    chunks = (bytes(1 << 16) for _ in range(100))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it does not read all of them
        connection.request("POST", PATH, chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        assert connection.getresponse().status == 413
    assert post(port, jpeg())[0] == 200


@pytest.mark.parametrize("sent", [b"", b"POST /v1/vis", b"POST /v1/vision/detection HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        assert client.recv(1000) == b""  # closed by the server


def test_a_body_that_does_not_come_is_not_waited_for(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"POST /v1/vision/detection HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nabc")
        assert b" 408 " in client.recv(1000).splitlines()[0]


def test_hostile_requests_end_nothing(port):
    """Garbage, damaged files, connections that break off; every tenth of them is an ordinary one, and is answered."""
    rng = random.Random(0)
    whole = jpeg(picture(seed=1))

    def attack(number: int) -> int | None:
        if number % 10 == 0:
            return post(port, whole)[0]
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        kind = rng.randrange(4)
        if kind == 0:
            return post(port, bytes(data))[0]
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        text = [head + data[: len(data) // 2], rng.randbytes(500), head.replace(b"Length: ", b"Length: -")][kind - 1]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(text)
        return None

    with ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(attack, range(200)))
    assert statuses[::10] == [200] * 20
    assert {status for status in statuses if status} <= {200, 400}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=30) as answer:
        served = json.load(answer)
    assert served["success"] and "500" not in served["requests"]


def test_more_than_may_wait_are_refused(weights):
    files = [jpeg(picture(seed=seed)) for seed in range(16)]
    with serving(weights, "--max-waiting", 1) as (_, port), ThreadPoolExecutor(16) as clients:
        statuses = {status for status, _ in clients.map(lambda data: post(port, data), files)}
        assert statuses == {200, 503}
        assert post(port, files[0])[0] == 200


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_an_end_during_requests_leaves_nothing_behind(weights, tmp_path, name):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", environment["TMPDIR"])
        with serving(weights) as (process, port):
            stop = threading.Event()

            def client() -> None:
                while not stop.is_set():
                    try:
                        post(port, *form(jpeg(picture(seed=2))))
                    except OSError:
                        return

            clients = [threading.Thread(target=client) for _ in range(4)]
            for thread in clients:
                thread.start()
            time.sleep(1)
            process.send_signal(getattr(signal, name))
            status = process.wait(30)
            stop.set()
            for thread in clients:
                thread.join(30)
    assert status in ((0, -signal.SIGTERM) if name == "SIGTERM" else (-signal.SIGKILL,))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("options", "word"),
    [(("--port", "99999"), "--port"), (("--max-waiting", "0"), "--max-waiting"), (("--timeout", "-1"), "--timeout")],
)
def test_impossible_arguments_are_told_in_one_line(weights, options, word, capsys):
    assert run_command(main, [str(weights), *options]) == 2
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1


@pytest.mark.slow
def test_the_page_shows_boxes_and_times(port, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg(picture(seed=5)))
    (tmp_path / "none.jpg").write_bytes(b"GIF89a" + bytes(20))
    with open_browser() as page:
        page.open(f"http://127.0.0.1:{port}/")
        (chooser,) = page.call("POST", "/element", {"using": "css selector", "value": "#file"}).values()
        page.call("POST", f"/element/{chooser}/value", {"text": str(tmp_path / "photo.jpg")})
        expected = post(port, jpeg(picture(seed=5)))[1]
        deadline = time.monotonic() + 20
        while page.run("return document.getElementById('figure').hidden") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert page.run("return document.querySelectorAll('#boxes rect').length") == expected["count"] > 0
        assert page.run("return document.querySelectorAll('#stages tr').length") == 5
        assert "ssd300_vgg16_dct" in page.run("return document.getElementById('network').textContent")
        page.call("POST", f"/element/{chooser}/value", {"text": str(tmp_path / "none.jpg")})
        deadline = time.monotonic() + 20
        while "GIF" not in page.run("return document.getElementById('message').textContent"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert page.run("return document.getElementById('figure').hidden")
        assert [line for line in page.log() if line["level"] == "SEVERE" and "400" not in line["message"]] == []
