"""A camera for tests and measurements: an HTTP server on loopback that sends JPEGs at a pace, as multipart."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

MULTIPART = "multipart/x-mixed-replace; boundary=frame"


def parts(frames: Iterable[bytes], lengths: bool = True, end: bool = True) -> bytes:
    """`frames` as a multipart body; `lengths`: with Content-Length; `end`: with the closing boundary."""
    body = b""
    for frame in frames:
        length = f"Content-Length: {len(frame)}\r\n" if lengths else ""
        body += b"--frame\r\nContent-Type: image/jpeg\r\n" + length.encode() + b"\r\n" + frame + b"\r\n"
    return body + (b"--frame--\r\n" if end else b"")


@contextmanager
def served(
    chunks: Iterable[bytes],
    content_type: str = MULTIPART,
    pause_s: float = 0.0,
    on_sent: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """The address of a server that answers /video with `chunks`, begun `pause_s` apart, and all else with 404.

    `on_sent` is called after each chunk, in the server's thread.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/video":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            due = time.monotonic()
            for chunk in chunks:
                self.wfile.write(chunk)
                self.wfile.flush()
                on_sent()
                due += pause_s
                time.sleep(max(0.0, due - time.monotonic()))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()
        server.server_close()


class Camera:
    """A server in a process of its own, which says when it sent each frame; a context manager.

    address: of its stream.
    """

    def __init__(self, frames: Sequence[bytes], count: int, frames_per_s: float):
        """It sends `count` frames, those given over and over."""
        context = multiprocessing.get_context("spawn")
        self._sent_s = context.Array("d", count)  # time.monotonic(), which processes of one machine share
        self._sent = context.Value("q", 0)
        receiving, sending = context.Pipe(duplex=False)
        arguments = (list(frames), count, 1 / frames_per_s, self._sent, self._sent_s, sending)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        self.address: str = receiving.recv()

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def sent(self) -> int:
        """How many frames were sent so far."""
        return self._sent.value

    def sent_s(self, number: int) -> float:
        """When frame `number` was sent, by time.monotonic()."""
        return self._sent_s[number]


def _serve(frames, count: int, period_s: float, sent, sent_s, told: Connection) -> None:
    chunks = (parts([frame], end=False) for frame in itertools.islice(itertools.cycle(frames), count))

    def on_sent() -> None:
        sent_s[sent.value] = time.monotonic()
        sent.value += 1

    with served(chunks, pause_s=period_s, on_sent=on_sent) as address:
        told.send(address)
        threading.Event().wait()
