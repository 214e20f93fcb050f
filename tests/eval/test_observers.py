"""The observers of a Predictor's steps, with a clock and events of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from eval.benchmark import observers
from eval.benchmark.observers import StageTimes

BATCH = SimpleNamespace(stages_ms={"read": 1.0, "decode": 2.0})


def test_wall_times_on_a_cpu(monkeypatch):
    ticks = iter([0.0, 0.5, 1.0, 1.25, 2.0, 2.125, 3.0, 4.0, 5.0, 5.5])
    monkeypatch.setattr(observers.time, "perf_counter", lambda: next(ticks))
    observer = StageTimes(torch.device("cpu"))
    for step in ("read", "prepare", "forward", "postprocess", "read"):
        observer.begin(step)
        observer.end(step, BATCH if step == "read" else None)
    assert observer.take() == {"wait": 1000, "transfer": 250, "network": 125, "nms": 1000, "read": 2, "decode": 4}
    assert observer.take() == {}


def test_events_on_a_gpu(monkeypatch):
    """A GPU of the test's own: its clock goes on by 10 ms with each event; it is never waited for."""
    clock = iter(range(0, 1000, 10))

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            assert stream == "current"
            self.at = next(clock)

        def elapsed_time(self, other):
            return other.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "current")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("waited"))
    observer = StageTimes(torch.device("cuda"))
    for step in ("read", "prepare", "forward", "read", "prepare", "forward", "postprocess"):
        observer.begin(step)
        observer.end(step, BATCH if step == "read" else None)
    taken = observer.take()
    assert 0 < taken.pop("wait") < 1000  # by the real clock: nothing of it happens on the GPU
    assert taken == {"read": 2, "decode": 4, "transfer": 20, "network": 20, "nms": 10}
    assert observer.take() == {}
