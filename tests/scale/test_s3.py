"""A job from and to object storage: moto's S3 server on loopback, of which requests fail and answers break off."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time

import pytest

from jpegdeep_torch.utils.storage import join, list_folder, read_file, write_file
from tests.scale.shards import finish, results, start, write_shards

pytestmark = pytest.mark.slow
pytest.importorskip("pyarrow", reason="the extra 'scale' is not installed")
pytest.importorskip("s3fs", reason="the extra 'scale-test' is not installed")
moto_app = pytest.importorskip("moto.server", reason="the extra 'scale-test' is not installed")

SHARDS, EACH = 4, 12
ARGUMENTS = ("--score", 0.05, "--workers", 0, "--device", "cpu", "--batch-size", 4)


class Unreliable:
    """A WSGI application: every third request is answered with 503, every fourth answer to GET breaks off."""

    def __init__(self, application):
        self.application, self.numbers, self.failing, self.failed = application, itertools.count(1), False, 0

    def __call__(self, environ, start_response):
        number = next(self.numbers)
        if not self.failing or "/shards" not in environ["PATH_INFO"]:
            return self.application(environ, start_response)
        if number % 3 == 0:
            self.failed += 1
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        body = b"".join(self.application(environ, start_response))
        if number % 4 == 0 and environ["REQUEST_METHOD"] == "GET" and len(body) > 5000:
            self.failed += 1
            return _broken_off(body)
        return [body]


def _broken_off(body):
    yield body[: len(body) // 2]
    raise ConnectionResetError


@pytest.fixture(scope="module")
def s3():
    """The server; s3:// means it, here and in processes started from here."""
    from werkzeug.serving import make_server

    application = Unreliable(moto_app.DomainDispatcherApplication(moto_app.create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    changes = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "a",
               "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    import boto3

    boto3.client("s3").create_bucket(Bucket="bucket")
    yield application
    server.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def local(tmp_path_factory, weights, s3):
    """The results of the same shards on this machine; the shards are put into the bucket."""
    folder = tmp_path_factory.mktemp("s3")
    for path in write_shards(folder / "shards", SHARDS, EACH):
        write_file(f"s3://bucket/shards/{path.name}", path.read_bytes())
    process = start(weights(), *sorted((folder / "shards").iterdir()), "-o", folder / "out", *ARGUMENTS)
    status, said = finish(process)
    assert status == 0, said
    return results(folder / "out")


def in_bucket(folder: str) -> dict[str, bytes]:
    names = [name for name in list_folder(folder) if name.endswith(".parquet")]
    return {name: read_file(join(folder, name)) for name in sorted(names)}


def test_from_a_bucket_that_fails_to_a_bucket(s3, local, weights):
    """And one shard is missing: it is named, and the exit status is 1."""
    s3.failing = True
    words = [weights(), f"s3://bucket/shards/shard-{{0000..{SHARDS:04d}}}.tar", "-o", "s3://bucket/out", *ARGUMENTS]
    try:
        status, said = finish(start(*words))
    finally:
        s3.failing = False
    assert status == 1 and f"error: s3://bucket/shards/shard-{SHARDS:04d}.tar: no such file" in said, said
    assert s3.failed > 1, "no request failed"
    assert in_bucket("s3://bucket/out") == local
    assert json.loads(read_file("s3://bucket/out/summary.json"))["shards_missing"] == [f"shard-{SHARDS:04d}"]


def test_killed_while_it_uploads_it_goes_on(s3, local, weights):
    words = [weights(), "s3://bucket/shards/*.tar", "-o", "s3://bucket/killed", *ARGUMENTS]
    moment = random.Random(1)
    for turn in range(2):
        process = start(*words)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(in_bucket("s3://bucket/killed")) > turn:
                break
            time.sleep(0.05)
        time.sleep(moment.random() * 0.3)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        found = in_bucket("s3://bucket/killed")
        assert found.items() <= local.items()
    status, said = finish(start(*words))
    assert status == 0, said
    assert in_bucket("s3://bucket/killed") == local
