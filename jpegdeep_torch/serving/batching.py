"""One detector for many requests at once: JPEGs are read in threads, and what waits is detected as one batch."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..data.dataset import Batch, join_batches, read_batch
from ..errors import JpegDeepError
from ..inference.detector import Detector


class TooBusy(JpegDeepError):
    """More requests wait than the server takes."""


@dataclass(frozen=True)
class Found:
    """What was found in one JPEG.

    value: boxes (K, 4), scores (K,), labels (K,), as of `Detector.predict`.
    image_size: (height, width) in pixels of the original picture.
    stages_ms: where the time went: 'read' (JPEG to the network's input), 'wait' (for the network to be free), 'network'
        and 'nms' (of the whole batch), in milliseconds.
    batch_size: how many JPEGs the network took together.
    """

    value: dict[str, Tensor]
    image_size: tuple[int, int]
    stages_ms: dict[str, float]
    batch_size: int


class BatchingDetector:
    """A Detector that requests share.  All but `close` is called in one event loop.

    While the network computes, requests gather; when it is free it takes what waits, up to the detector's batch size.
    So nothing waits for company that does not come.
    """

    def __init__(self, detector: Detector, most_waiting: int = 64, readers: int = 2):
        """
        Args:
            detector: runs in a thread of its own.
            most_waiting: requests that may be under way at once; any more are refused.
            readers: threads that read JPEGs.  The native reader runs beside Python.
        """
        self.detector, self.most_waiting = detector, most_waiting
        self._readers = ThreadPoolExecutor(readers, "read")
        self._network = ThreadPoolExecutor(1, "network")
        self._waiting: list[tuple[Batch, float, asyncio.Future[Found]]] = []
        self._task: asyncio.Task[None] | None = None
        self.under_way = 0

    async def detect(self, data: bytes) -> Found:
        """
        Args:
            data: a JPEG.

        Raises:
            JpegError: it cannot be read.
            TooBusy: too many requests are under way.
        """
        if self.under_way >= self.most_waiting:
            raise TooBusy(f"{self.under_way} requests are under way, at most {self.most_waiting} are taken: try again")
        self.under_way += 1
        try:
            loop = asyncio.get_running_loop()
            items = [(0, data, "the picture")]
            batch = await loop.run_in_executor(self._readers, read_batch, self.detector.reader, items)
            if batch.errors:
                raise batch.errors[0][1]
            future: asyncio.Future[Found] = loop.create_future()
            self._waiting.append((batch, time.perf_counter(), future))
            if self._task is None or self._task.done():
                self._task = loop.create_task(self._detect_all())
            return await future
        finally:
            self.under_way -= 1

    async def _detect_all(self) -> None:
        """Runs batches until nothing waits."""
        loop = asyncio.get_running_loop()
        while group := self._waiting[: self.detector.batch_size]:
            del self._waiting[: len(group)]
            group = [item for item in group if not item[2].done()]  # whose client is still there
            if not group:
                continue
            try:
                results = await loop.run_in_executor(self._network, self._detect, group)
            except Exception as error:
                for *_, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (*_, future), found in zip(group, results):
                if not future.done():
                    future.set_result(found)

    def _detect(self, group: list[Any]) -> list[Found]:
        started = time.perf_counter()
        batch = join_batches([batch for batch, *_ in group])
        outputs = self.detector.forward(self.detector.prepare(batch))
        between = time.perf_counter()
        values = self.detector.postprocess(outputs, batch.image_sizes)
        ended = time.perf_counter()
        shared = {"network": (between - started) * 1e3, "nms": (ended - between) * 1e3}
        return [
            Found(
                value, tuple(one.image_sizes[0].tolist()),
                {"read": sum(one.stages_ms.values()), "wait": (started - queued) * 1e3, **shared}, len(group),
            )
            for value, (one, queued, _) in zip(values, group)
        ]  # fmt: skip

    def close(self) -> None:
        """Ends the threads; what has not begun is dropped."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=False, cancel_futures=True)
