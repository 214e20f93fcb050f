"""The measure of a live stream: every frame that was sent is accounted for."""

from __future__ import annotations

import json

from tests.shapes import run


def test_the_command(dataset, weights, tmp_path):
    done = run("live", "--weights", weights(), "--images", dataset / "JPEGImages", "--fps", 10, "--seconds", 0.6,
               "--json", tmp_path / "live.json")  # fmt: skip
    assert done.returncode == 0 and "6 sent" in done.stdout, done.stderr
    (row,) = json.loads((tmp_path / "live.json").read_text())["results"]
    assert row["sent"] == 6 == row["detected"] + row["dropped"] == sum(row["age_frames"].values()) + row["dropped"]
    assert row["latency_ms"]["median"] > 0
