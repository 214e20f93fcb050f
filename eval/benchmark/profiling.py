"""One setting under torch.profiler: which operators and which stages the time goes to."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.profiler import ProfilerActivity, profile

from eval.benchmark.observers import RANGES
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.utils.files import written_whole


@dataclass(frozen=True)
class Cost:
    """How often an operator or a stage ran, and its milliseconds on the CPU and on the GPU.

    An operator's are its own, without what it calls, summed over threads.  A stage's include all that is in it.
    """

    name: str
    calls: int
    cpu_ms: float
    gpu_ms: float


@dataclass(frozen=True)
class ProfileResult:
    """Of `images` images.  `stages` are in their order in time; of `operators` the costliest is first."""

    images: int
    stages: list[Cost]
    operators: list[Cost]

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "stages": [vars(cost) for cost in self.stages],
            "operators": [vars(cost) for cost in self.operators],
        }


def run_batches(
    detector: Detector, sources: Sequence[Source], batches: int, on_batch: Callable[[], None] = lambda: None
) -> int:
    """Runs the detector's `stream` on so many batches of the sources, over and over -> images."""
    wanted = batches * detector.batch_size
    count = 0
    for count, _ in enumerate(detector.stream(itertools.islice(itertools.cycle(sources), wanted)), start=1):
        if count % detector.batch_size == 0:
            on_batch()
    return count


def profile_detector(
    detector: Detector,
    sources: Sequence[Source],
    batches: int,
    trace: str | os.PathLike[str] | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> ProfileResult:
    """Profiles `batches` batches of a detector that `NamedRanges` observes, after two batches that do not count.

    trace: Chrome's JSON is written there, whole or not at all.
    """
    run_batches(detector, sources, 2)
    activities = [ProfilerActivity.CPU]
    if detector.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as recorded:
        images = run_batches(detector, sources, batches, on_batch)
    if trace is not None:
        with written_whole(trace) as temporary:
            recorded.export_chrome_trace(str(temporary))
    events = recorded.key_averages()
    stages = {event.key: event for event in events if event.key in RANGES and event.cpu_time_total}
    operators = [
        Cost(e.key, e.count, e.self_cpu_time_total / 1e3, e.self_device_time_total / 1e3)
        for e in events
        if e.key not in RANGES and not e.key.startswith("enumerate(DataLoader)")  # a range too: the wait for data
    ]
    operators.sort(key=lambda cost: cost.cpu_ms + cost.gpu_ms, reverse=True)
    whole = [stages[name] for name in RANGES if name in stages]
    return ProfileResult(
        images, [Cost(e.key, e.count, e.cpu_time_total / 1e3, e.device_time_total / 1e3) for e in whole], operators
    )
