"""What the laboratory learns of a Predictor's steps while it runs: how long each takes, or named ranges in a trace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from jpegdeep_torch.data.dataset import Batch
from jpegdeep_torch.inference.predictor import STEPS

STAGE_OF = dict(zip(STEPS, ("wait", "transfer", "network", "nms")))  # a step -> its key in results
RANGE_OF = dict(zip(STEPS, ("wait for data", "transfer", "network", "decode and NMS")))  # a step -> its title in traces
RANGES = tuple(RANGE_OF.values())


class StageTimes:
    """Milliseconds of each stage, summed over batches, until they are taken; an Observer.

    On a CPU, and for the wait for data, they are wall times.  Elsewhere they are what lies between two CUDA events on
    the current stream: the GPU is never waited for, since that would end the overlap.  Steps that overlap on the GPU
    add up to more than the wall time.  The worker's own times are those of the batches that were read.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._total: Counter[str] = Counter()
        self._began = 0.0
        self._first: torch.cuda.Event | None = None
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def begin(self, step: str) -> None:
        if self._by_events(step):
            self._first = self._event()
        else:
            self._began = time.perf_counter()

    def end(self, step: str, batch: Batch | None) -> None:
        if self._by_events(step):
            self._events.append((STAGE_OF[step], self._first, self._event()))
        else:
            self._total[STAGE_OF[step]] += (time.perf_counter() - self._began) * 1e3
        if step == "read" and batch is not None:
            self._total.update(batch.stages_ms)

    def take(self) -> dict[str, float]:
        """{stage: milliseconds} since the last call; the caller has waited for the GPU."""
        for stage, first, last in self._events:
            self._total[stage] += first.elapsed_time(last)
        taken, self._total, self._events = dict(self._total), Counter(), []
        return taken

    def _by_events(self, step: str) -> bool:
        return self.device.type == "cuda" and step != "read"

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


class NamedRanges:
    """Each step is a range of a trace, named as in RANGE_OF; an Observer."""

    def __init__(self, device: torch.device):
        self.device = device
        self._open = ExitStack()

    def begin(self, step: str) -> None:
        self._open.enter_context(named_range(RANGE_OF[step], self.device))

    def end(self, step: str, batch: Batch | None) -> None:
        self._open.close()


@contextmanager
def named_range(name: str, device: torch.device) -> Iterator[None]:
    """What happens inside stands under `name` in a trace of torch.profiler, and on a GPU in one of Nsight Systems."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.nvtx.range_push(name)
    try:
        with torch.profiler.record_function(name):
            yield
    finally:
        if on_gpu:
            torch.cuda.nvtx.range_pop()
