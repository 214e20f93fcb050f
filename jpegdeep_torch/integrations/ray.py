"""Ray Data: the detector as a callable class for `Dataset.map_batches`; JPEG bytes travel, never pixels.

ds = ray.data.read_binary_files("s3://bucket/photos/", include_paths=True)
ds = ds.map_batches(DetectorActor, fn_constructor_args=["ckpt.safetensors"], batch_size=64, num_cpus=1,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=16))
ds.write_parquet("s3://bucket/found/")

It imports nothing of Ray's: Daft's and Spark's batch functions take the same class, with tables of pyarrow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.shards import ADDRESS_COLUMNS, BYTES_COLUMNS, parquet_modules
from ..errors import DatasetError, StorageError
from ..inference.detector import Detector
from ..inference.writer import Selection
from ..jpeg import ReadOptions
from ..jpeg.options import DEFAULT_OPTIONS
from ..scale.results import result_columns
from ..scale.rows import Row, failed_row, predict_rows, whole_batches
from ..utils.storage import DEFAULT_RETRY, Retry, read_file


class DetectorActor:
    """Detects objects in batches of JPEGs.

    A batch has a column of JPEGs (`bytes`, or another of `data.shards.BYTES_COLUMNS`) or of their paths or addresses
    (`path`, or another of `data.shards.ADDRESS_COLUMNS`).  What comes out has its other columns, and those of
    `scale.results.result_columns`: `height`, `width`, `boxes`, `scores`, `labels`, `error`.  A file that cannot be read
    is a row with `error`.  The rows are those of `jpegdeep predict` over shards, to the last bit.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        backend: str = "torch",
        device: str | None = None,
        threads: int | None = 1,
        threshold: float = 0.5,
        batch_size: int = 8,
        workers: int = 0,
        coefficients: str | None = None,
        read_options: ReadOptions = DEFAULT_OPTIONS,
        retry: Retry = DEFAULT_RETRY,
    ):
        """
        Args:
            weights: a safetensors file, at this path on every node; or a name (`list_weights`).
            backend, batch_size, workers, coefficients, read_options: as of `Detector.load`.
            device: default: a GPU where the actor was given one (`num_gpus`), else the CPU.
            threads: of PyTorch in this actor; as many as it was given cores (`num_cpus`).  None: PyTorch's own choice.
            threshold: the least score that is kept.
            retry: how often a path or an address is tried.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.detector = whole_batches(
            Detector.load(
                weights, device, backend, batch_size=batch_size, workers=workers, coefficients=coefficients,
                read_options=read_options,
            )
        )  # fmt: skip
        self.selection, self.retry = Selection(threshold), retry

    def __call__(self, batch: Any) -> Any:
        """A dict of NumPy arrays or lists, or a table or record batch of pyarrow -> a table of pyarrow.

        Raises:
            DatasetError: the batch has neither JPEGs nor paths.
        """
        arrow, _ = parquet_modules()
        if isinstance(batch, Mapping):
            columns = {name: list(values) for name, values in batch.items()}
        else:
            columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        content = next((name for name in BYTES_COLUMNS if name in columns), None)
        address = next((name for name in ADDRESS_COLUMNS if name in columns), None)
        if content is not None:
            found = self._rows([_bytes(value) for value in columns.pop(content)])
        elif address is not None:
            found = self._rows([self._fetch(str(value)) for value in columns[address]])
        else:
            raise DatasetError(
                f"a batch of columns {', '.join(columns)}, expected one of {', '.join(BYTES_COLUMNS)} (JPEGs) or "
                f"{', '.join(ADDRESS_COLUMNS)} (where they are)"
            )
        kept = {name: arrow.array(values) for name, values in columns.items()}
        return arrow.table({**kept, **result_columns(found)})

    def _rows(self, jpegs: Sequence[bytes | Row]) -> list[Row]:
        """The rows of JPEGs, in the order given; rows among them stay as they are."""
        found = predict_rows(self.detector, [jpeg for jpeg in jpegs if isinstance(jpeg, bytes)], self.selection)
        return [next(found) if isinstance(jpeg, bytes) else jpeg for jpeg in jpegs]

    def _fetch(self, url: str) -> bytes | Row:
        try:
            return read_file(url, self.retry)
        except StorageError as error:
            return failed_row(f"cannot be fetched ({str(error).removeprefix(f'{url}: ')})")


def _bytes(value: Any) -> bytes | Row:
    """A value of a column of JPEGs: bytes, a uint8 array, or {'bytes': ...} as Hugging Face's datasets have them."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else failed_row("no bytes in this row")
