"""A shard's results as one Parquet file, and the summary of many."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..data.shards import parquet_modules
from ..utils.storage import DEFAULT_RETRY, Retry, opened
from .rows import Row, failed_row

_ROWS_PER_GROUP = 1000
_BINS = 20  # of the scores' histogram, from 0 to 1
_SUMMARY_KEY = b"jpegdeep_summary"
_MOST_KINDS = 100


@dataclass
class Summary:
    """What rows came to; summaries add up.

    files: how many there were, those with an error among them.
    errors: how many of each kind: the reason without its numbers.
    classes: how many detections of each class.
    scores: of all detections, how many in each of 20 equal bins from 0 to 1.
    """

    files: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    scores: list[int] = field(default_factory=lambda: [0] * _BINS)

    def add(self, other: Summary) -> None:
        self.files += other.files
        self.errors = dict(Counter(self.errors) + Counter(other.errors))
        self.classes = dict(Counter(self.classes) + Counter(other.classes))
        self.scores = [a + b for a, b in zip(self.scores, other.scores)]

    def add_row(self, row: Row, class_names: Sequence[str]) -> None:
        self.files += 1
        if row.error is not None:
            kind = error_kind(row.error)
            if kind not in self.errors and len(self.errors) >= _MOST_KINDS:
                kind = "other"
            self.errors[kind] = self.errors.get(kind, 0) + 1
        for label, count in zip(*np.unique(row.labels, return_counts=True)):
            name = class_names[int(label) - 1]
            self.classes[name] = self.classes.get(name, 0) + int(count)
        for place in np.minimum((row.scores * _BINS).astype(int), _BINS - 1):
            self.scores[place] += 1


def error_kind(reason: str) -> str:
    """The reason without numbers and names, by which errors of several files are counted together."""
    return re.sub(r"'[^']*'|\b0x[0-9a-f]+|\d+([.,]\d+)*", "#", reason)[:200]


def result_columns(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows as pyarrow's arrays.

    `height` and `width` int32 (null with an error), `boxes` lists of four float32, `scores` lists of float32, `labels`
    lists of int64, `error` string (null without one).
    """
    arrow, _ = parquet_modules()
    empty = failed_row("")  # so that there is something to concatenate
    parts = [*rows, empty]
    boxes = arrow.FixedSizeListArray.from_arrays(np.concatenate([row.boxes for row in parts]).ravel(), 4)
    offsets = np.cumsum([0, *(len(row.scores) for row in rows)]).astype(np.int32)
    sizes = ([None if row.error is not None else getattr(row, name) for row in rows] for name in ("height", "width"))
    return {
        **{name: arrow.array(values, arrow.int32()) for name, values in zip(("height", "width"), sizes)},
        "boxes": arrow.ListArray.from_arrays(offsets, boxes),
        "scores": arrow.ListArray.from_arrays(offsets, np.concatenate([row.scores for row in parts])),
        "labels": arrow.ListArray.from_arrays(offsets, np.concatenate([row.labels for row in parts])),
        "error": arrow.array([row.error for row in rows], arrow.string()),
    }


class ResultsFile:
    """Gathers a shard's rows, and makes the Parquet file of them: `file`, a string, and `result_columns`.

    Its metadata have the summary.
    """

    def __init__(self, class_names: Sequence[str]):
        self._arrow, self._parquet = parquet_modules()
        self.summary = Summary()
        self._class_names = class_names
        self._rows: list[tuple[str, Row]] = []
        self._buffer = io.BytesIO()
        fields = {"file": self._arrow.string(), **{name: column.type for name, column in result_columns([]).items()}}
        self._schema = self._arrow.schema(list(fields.items()))
        self._writer = self._parquet.ParquetWriter(self._buffer, self._schema, compression="zstd")

    def add(self, name: str, row: Row) -> None:
        self._rows.append((name, row))
        self.summary.add_row(row, self._class_names)
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> bytes:
        """The whole file."""
        self._flush()
        summary = {"class_names": list(self._class_names), "summary": asdict(self.summary)}
        self._writer.add_key_value_metadata({_SUMMARY_KEY: json.dumps(summary, sort_keys=True).encode()})
        self._writer.close()
        return self._buffer.getvalue()

    def _flush(self) -> None:
        if not self._rows:
            return
        names, rows = zip(*self._rows)
        files = self._arrow.array(names, self._arrow.string())
        self._writer.write_table(self._arrow.table([files, *result_columns(rows).values()], schema=self._schema))
        self._rows = []


def read_summary(url: str, retry: Retry = DEFAULT_RETRY) -> Summary:
    """The summary in a results file's metadata.  StorageError."""
    _, parquet = parquet_modules()
    with opened(url, retry) as file:
        metadata = parquet.read_metadata(file).metadata
    return Summary(**json.loads(metadata[_SUMMARY_KEY])["summary"])


def summed(summaries: Iterable[Summary]) -> Summary:
    total = Summary()
    for summary in summaries:
        total.add(summary)
    return total


def as_json(total: Summary, shards: int, missing: Sequence[str]) -> dict[str, Any]:
    """What summary.json says."""
    return {
        "shards": shards, "shards_missing": list(missing), "files": total.files,
        "errors": sum(total.errors.values()), "errors_by_kind": dict(sorted(total.errors.items())),
        "detections": sum(total.scores), "detections_by_class": dict(sorted(total.classes.items())),
        "scores": {"from": 0.0, "to": 1.0, "counts": total.scores},
    }  # fmt: skip
