"""A real browser, headless, by the WebDriver protocol (W3C) and nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Page:
    """One browser window."""

    def __init__(self, address: str):
        self.address = address

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("GET", "/screenshot"))

    def log(self) -> list[dict[str, Any]]:
        return self.call("POST", "/se/log", {"type": "browser"})


@contextlib.contextmanager
def open_browser(width: int = 1200, height: int = 2400) -> Iterator[Page]:
    """A headless Chromium; skips the test where there is none."""
    driver = shutil.which("chromedriver")
    binary = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if driver is None or binary is None:
        pytest.skip("no Chromium with chromedriver on this machine: the report is not looked at")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    root = Page(f"http://127.0.0.1:{port}")
    session = None
    try:
        _wait_for(root)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 f"--window-size={width},{height}"]  # fmt: skip
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"binary": binary, "args": flags},
                  "goog:loggingPrefs": {"browser": "ALL"}}  # fmt: skip
        started = root.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        session = Page(f"{root.address}/session/{started['sessionId']}")
        yield session
    finally:
        if session is not None:
            session.call("DELETE", "")
        process.terminate()
        process.wait(30)


def _wait_for(root: Page) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if root.call("GET", "/status")["ready"]:
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.skip("chromedriver does not start on this machine: the report is not looked at")
