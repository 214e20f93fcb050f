"""Prediction by shards: each shard in, one Parquet file out, whole and once; killed at any moment, it goes on."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..data.shards import ShardFile, output_names, read_shard
from ..errors import DatasetError, StorageError
from ..inference.detector import Detector
from ..inference.writer import Selection
from ..jpeg import WarningCounts
from ..utils.settings import changed_settings
from ..utils.storage import DEFAULT_RETRY, Retry, join, list_folder, read_file, remove_file, write_file
from .results import ResultsFile, Summary, as_json, read_summary, summed
from .rows import failed_row, to_row, whole_batches

SETTINGS, SUMMARY = "run.json", "summary.json"
EVERYTHING = Selection()
_READ_AHEAD = 64  # files that wait in memory for the detector


@dataclass
class JobSummary:
    """What this process's part of a job came to.

    shards: how many are its own.
    done_before: how many of them were done already.
    failed: {shard: why it could not be read}; the others are done.
    rows: the sum of what it did itself.
    warnings: of the files that it read.
    """

    shards: int = 0
    done_before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    rows: Summary = field(default_factory=Summary)
    warnings: WarningCounts = field(default_factory=WarningCounts)


@dataclass
class _End:
    """A shard's end: `error` where it came too early."""

    error: str | None = None


def own_part() -> tuple[int, int]:
    """(this process's number, how many there are), as torchrun's environment says; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def predict_shards(
    detector: Detector,
    shards: Sequence[str],
    output: str,
    *,
    selection: Selection = EVERYTHING,
    settings: dict[str, Any] | None = None,
    overwrite: bool = False,
    part: tuple[int, int] | None = None,
    retry: Retry = DEFAULT_RETRY,
    progress: Callable[[int, JobSummary], None] = lambda files, summary: None,
    on_error: Callable[[str, str], None] = lambda name, reason: None,
) -> JobSummary:
    """Writes `output`/NAME.parquet for each shard NAME, and `output`/summary.json of all that are there.

    A shard whose file is there already is done.  Files are written whole or not at all, so a job that was killed goes
    on when it is called again.  An image's detections do not depend on what is beside it (`whole_batches`): so they are
    the same to the last bit however shards are spread over processes.

    Args:
        shards: tar files, folders or Parquet files, as of `data.shards.expand_shards`.
        output: a folder in any storage.
        selection: which detections are kept.
        settings: what a job that goes on must have been begun with.
        overwrite: do all shards anew.
        part: (K, N) does every Nth shard from the Kth on (default: `own_part`).
        retry: how often what fails in storage is tried again.
        progress: is called with the number of files since the last call, and what was done so far.
        on_error: is called with the name of a file or shard that cannot be read, and the reason.

    Raises:
        DatasetError: two shards have one name, or `output` has a job with other settings.
        StorageError: `output` cannot be written.  A shard that cannot be read does not end the job.
        MissingExtra: pyarrow or a storage's library is not installed.
    """
    named = output_names(shards)
    number, count = own_part() if part is None else part
    present = set() if overwrite else set(list_folder(output, retry))
    if f"{output.rstrip('/')}/" in {shard.rpartition("/")[0] + "/" for shard in shards if shard.endswith(".parquet")}:
        raise DatasetError(f"{output}: has the shards themselves, expected another folder")
    own = list(named.items())[number::count]
    if overwrite:
        for name, _ in own:
            remove_file(join(output, f"{name}.parquet"), retry)
    _check_settings(output, settings or {}, SETTINGS in present, retry)
    todo = [(name, shard) for name, shard in own if f"{name}.parquet" not in present]
    summary = JobSummary(shards=len(own), done_before=len(own) - len(todo))
    _Job(whole_batches(detector), todo, output, selection, retry, summary, progress, on_error).run()
    _write_summary(output, list(named), retry)
    return summary


class _Job:
    """The files of all shards as one stream, so that worker processes and batches go on from shard to shard."""

    def __init__(
        self,
        detector: Detector,
        todo: Sequence[tuple[str, str]],
        output: str,
        selection: Selection,
        retry: Retry,
        summary: JobSummary,
        progress: Callable[[int, JobSummary], None],
        on_error: Callable[[str, str], None],
    ):
        self.detector, self.todo, self.output, self.selection, self.retry = detector, todo, output, selection, retry
        self.summary, self.progress, self.on_error = summary, progress, on_error
        self.begun: deque[ShardFile | _End] = deque()  # what was given to the detector, and what lies between
        self.shards = iter(todo)
        self.name, self.shard = next(self.shards, ("", ""))
        self.results = ResultsFile(detector.class_names)

    def run(self) -> None:
        with _ReadAhead([shard for _, shard in self.todo], self.retry) as files:
            for prediction in self.detector.stream(self._jpegs(files), on_error="report"):
                self._settle()
                file = self.begun.popleft()
                assert isinstance(file, ShardFile)
                self.summary.warnings.add(f"{self.shard}: {file.name}", prediction.warnings)
                self._add(file.name, to_row(prediction, self.selection))
                self._settle()
            self._settle()

    def _jpegs(self, files: Iterator[ShardFile | _End]) -> Iterator[bytes]:
        """What the detector reads; the rest stays in `begun`, in its place."""
        for file in files:
            if isinstance(file, _End) or file.data is None:
                self.begun.append(file)
            else:
                self.begun.append(ShardFile(file.name, b""))  # the JPEG itself is the detector's now
                yield file.data

    def _settle(self) -> None:
        """Deals with what stands before the next file that the detector was given."""
        while self.begun:
            first = self.begun[0]
            if isinstance(first, _End):
                self._end_shard(first)
            elif first.error is not None:
                self._add(first.name, failed_row(first.error))
            else:
                return
            self.begun.popleft()

    def _add(self, name: str, row: Any) -> None:
        self.results.add(name, row)
        if row.error is not None:
            self.on_error(f"{self.shard}: {name}", row.error)
        self.progress(1, self.summary)

    def _end_shard(self, end: _End) -> None:
        if end.error is None:
            write_file(join(self.output, f"{self.name}.parquet"), self.results.finish(), self.retry)
            self.summary.rows.add(self.results.summary)
        else:
            self.summary.failed[self.shard] = end.error
            self.on_error(self.shard, end.error)
        self.results = ResultsFile(self.detector.class_names)
        self.name, self.shard = next(self.shards, ("", ""))
        self.progress(0, self.summary)


class _ReadAhead:
    """The files of shards, one after another, and an _End after each; read in a thread ahead of whoever asks."""

    def __init__(self, shards: Sequence[str], retry: Retry):
        self._shards, self._retry = shards, retry
        self._queue: queue.Queue[ShardFile | _End | BaseException | None] = queue.Queue(_READ_AHEAD)
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="read shards", daemon=True)

    def __enter__(self) -> Iterator[ShardFile | _End]:
        self._thread.start()
        return self._files()

    def __exit__(self, *_exception: object) -> None:
        self._closed = True
        while self._thread.is_alive():  # it may wait for a place in the queue
            try:
                self._queue.get(timeout=0.1)
            except queue.Empty:
                continue

    def _files(self) -> Iterator[ShardFile | _End]:
        while (found := self._queue.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def _read(self) -> None:
        try:
            for shard in self._shards:
                try:
                    for file in read_shard(shard, self._retry):
                        self._queue.put(file)
                        if self._closed:
                            return
                    end = _End()
                except StorageError as error:
                    end = _End(str(error).removeprefix(f"{shard}: "))
                self._queue.put(end)
            self._queue.put(None)
        except BaseException as error:  # raised where the files are asked for
            self._queue.put(error)


def _check_settings(output: str, settings: dict[str, Any], present: bool, retry: Retry) -> None:
    """Keeps the job's settings in `output`; DatasetError where a job with others is there already."""
    path = join(output, SETTINGS)
    if not present:
        write_file(path, (json.dumps(settings, indent=1, sort_keys=True) + "\n").encode(), retry)
        return
    try:
        held = json.loads(read_file(path, retry))
    except ValueError:
        held = {}
    if changes := changed_settings(held, json.loads(json.dumps(settings))):
        raise DatasetError(
            f"{output}: holds a job with other settings ({', '.join(changes)}); choose another folder, or overwrite"
        )


def _write_summary(output: str, names: Sequence[str], retry: Retry) -> None:
    """summary.json of all results that are there; whichever process comes last has all of them."""
    while True:
        there = set(list_folder(output, retry))
        done = [name for name in names if f"{name}.parquet" in there]
        with ThreadPoolExecutor(8) as threads:
            total = summed(threads.map(lambda name: read_summary(join(output, f"{name}.parquet"), retry), done))
        missing = [name for name in names if f"{name}.parquet" not in there]
        record = json.dumps(as_json(total, len(names), missing), indent=1) + "\n"
        write_file(join(output, SUMMARY), record.encode(), retry)
        if set(list_folder(output, retry)) - there <= {SUMMARY}:  # else another process's shard came meanwhile
            return
