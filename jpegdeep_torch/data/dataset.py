"""JPEG files as batches of network inputs: what a batch is, and the dataset that reads it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DatasetArgumentError, DatasetError, JpegError
from ..jpeg import JpegWarning, ReadOptions
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixels import DEFAULT_DECODER, decode_on_device
from ..jpeg.reader import Source
from ..models import ModelConfig
from ..presets import Preset, prepare_image
from .mjpeg import Frame
from .reading import Clock, InputReader, source_name
from .shared_buffers import batch_memory, pack, unpack

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")


@dataclass
class Batch:
    """The images of one batch, as a worker process passes them to the main process.

    inputs: channels first in shape and channels last in memory.  RGB networks: (pixels (N, 3, S, S) uint8,), or with
        decoder 'torchvision-device' the N files' bytes, (L,) uint8 each.  DCT networks: (luma (N, 64, H, W), chroma
        (N, 128, H/2, W/2)) int16, or luma alone.
    image_sizes: (N, 2) int64, height and width of the original images in pixels.
    indices: of the N sources in the dataset.
    names: of the N sources.
    errors: (index, JpegError) of sources that could not be read; they are not among the N.
    warnings: what is unusual about sources among the N, by their index, where there is anything.
    stages_ms: the reader's time per stage, for the whole batch.
    frames: of sources that are frames of a stream, by their indices.
    """

    inputs: tuple[Tensor, ...]
    image_sizes: Tensor
    indices: list[int]
    names: list[str]
    errors: list[tuple[int, JpegError]] = field(default_factory=list)
    warnings: dict[int, tuple[JpegWarning, ...]] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)
    frames: dict[int, Frame] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def __getstate__(self) -> dict[str, object]:
        """With the inputs in one piece, and with numbers where a tensor would cost a connection of its own."""
        return self.__dict__ | {"inputs": pack(self.inputs), "image_sizes": self.image_sizes.tolist()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, inputs=unpack(state["inputs"]))
        self.image_sizes = _as_sizes(state["image_sizes"])

    def leave_out(self, errors: Sequence[tuple[int, JpegError]]) -> None:
        """Moves encoded files, at places among the N, to `errors`: they could not be decoded after all."""
        wrong = dict(errors)
        kept = [place for place in range(len(self)) if place not in wrong]
        self.errors += [(self.indices[place], error) for place, error in errors]
        self.inputs = tuple(self.inputs[place] for place in kept)
        self.image_sizes = self.image_sizes[kept]
        self.indices, self.names = [self.indices[place] for place in kept], [self.names[place] for place in kept]
        self.warnings = {index: found for index, found in self.warnings.items() if index in self.indices}

    def pin_memory(self) -> Batch:
        """Called by DataLoader(pin_memory=True)."""
        self.inputs = tuple(t.pin_memory() for t in self.inputs)
        return self


def join_batches(batches: Sequence[Batch]) -> Batch:
    """The images of several batches as one, in order; their indices are kept as they are."""
    first = batches[0]
    if first.inputs and first.inputs[0].ndim == 1:
        inputs = tuple(data for batch in batches for data in batch.inputs)  # encoded files
    else:
        inputs = tuple(torch.cat(parts) for parts in zip(*(batch.inputs for batch in batches)))
    return Batch(
        inputs,
        torch.cat([batch.image_sizes for batch in batches]),
        [index for batch in batches for index in batch.indices],
        [name for batch in batches for name in batch.names],
    )


def _as_sizes(sizes: Sequence[tuple[int, int]]) -> Tensor:
    return torch.tensor(sizes, dtype=torch.int64).reshape(len(sizes), 2)


class JpegDataset(Dataset):
    """JPEG files, or JPEGs in memory, as inputs of one network.

    A whole batch is read at once, straight into the batch's memory: use the dataset through `make_loader`, or call
    `dataset.__getitems__(indices)`, which gives a Batch.  `dataset[i]` is a Batch of one.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        config: ModelConfig,
        preset: Preset,
        *,
        decoder: str = DEFAULT_DECODER,
        names: Sequence[str] | None = None,
        read_options: ReadOptions = DEFAULT_OPTIONS,
    ):
        """`decoder` makes the pixels: one of `jpeg.pixels.DECODER_NAMES`.  `names` replace the sources' own."""
        self.sources = list(sources)
        if not self.sources:
            raise DatasetArgumentError("no images: expected at least one JPEG")
        if names is not None and len(names) != len(self.sources):
            raise DatasetArgumentError(f"{len(names)} names for {len(self.sources)} images")
        self.names = names
        self.reader = InputReader(config, preset, decoder, read_options)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        named = self.names
        return read_batch(
            self.reader,
            [(i, self.sources[i], named[i] if named is not None else source_name(self.sources[i], i)) for i in indices],
        )


def read_batch(reader: InputReader, items: Sequence[tuple[int, Source, str]]) -> Batch:
    """Reads (index, source, name) items into one Batch; what cannot be read goes to its `errors`."""
    clock = Clock()
    tensors, arrays = batch_buffers(reader, len(items))
    batch = Batch((), torch.empty(0), [], [])
    sizes, encoded = [], []
    for index, source, name in items:
        place, found = len(batch.indices), list[JpegWarning]()
        try:
            if reader.leaves_encoded:
                data, size = reader.read_encoded(source, name, clock, found)
                encoded.append(torch.from_numpy(data))
            else:
                size = reader.read(source, name, tuple(array[place] for array in arrays), clock, found)
        except JpegError as error:
            # Without the frames it went through, which hold on to the batch's memory.
            error.__context__ = None
            batch.errors.append((index, error.with_traceback(None)))
            continue
        sizes.append(size)
        batch.indices.append(index)
        batch.names.append(name)
        if found:
            batch.warnings[index] = tuple(found)
    count = len(batch.indices)
    batch.inputs = _one_piece(encoded) or tuple(tensor[:count].permute(0, 3, 1, 2) for tensor in tensors)
    batch.image_sizes = _as_sizes(sizes)
    batch.stages_ms = clock.stages_ms
    return batch


def batch_buffers(reader: InputReader, count: int) -> tuple[list[Tensor], list[np.ndarray]]:
    """Memory for `count` images.

    It is in one piece.  In a worker process it is shared with the main process, so that nothing is copied afterwards.

    Returns:
        Tensors of `reader.shapes(count)`, and arrays on the same memory, for `reader.read` to fill.
    """
    shapes = reader.shapes(count)
    if not shapes:
        return [], []
    sizes = [math.prod(shape) for shape in shapes]
    parts = batch_memory(sum(sizes), reader.dtype).split(sizes)
    tensors = [part.view(shape) for part, shape in zip(parts, shapes)]
    return tensors, [tensor.numpy() for tensor in tensors]


def _one_piece(encoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Files' bytes, (L,) each, side by side."""
    return torch.cat(list(encoded)).split([len(data) for data in encoded]) if encoded else ()


def prepare_inputs(
    inputs: Sequence[Tensor],
    config: ModelConfig,
    preset: Preset,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    read_options: ReadOptions = DEFAULT_OPTIONS,
) -> tuple[Tensor, ...]:
    """A batch's inputs, int16 or uint8 -> what the network takes: floating point, on `device`.

    They are converted on `device`: so fewer bytes are moved, and from pinned memory without waiting.
    Files' bytes are decoded there under `read_options`; the first that cannot be decoded raises its JpegError.
    """
    if inputs and inputs[0].ndim == 1:
        inputs = (decode_on_device(inputs, config.image_size, device, options=read_options),)
    moved = tuple(t.to(device, non_blocking=True) for t in inputs)
    if not config.is_dct:
        return (prepare_image(moved[0], preset, dtype),)
    floats = tuple(t.to(dtype) for t in moved)
    if config.inputs == "dct_split":
        return floats[0], floats[1][:, :64], floats[1][:, 64:]
    return floats


def decode_batch(batch: Batch, reader: InputReader, device: torch.device | str) -> tuple[Tensor, ...]:
    """The pixels, (N, 3, S, S) uint8 on `device`, of a batch whose files `reader` left encoded.

    A file that cannot be decoded is moved to the batch's `errors`, as one is that cannot be read.
    """
    errors: list[tuple[int, JpegError]] = []
    pixels = decode_on_device(
        batch.inputs, reader.config.image_size, device, names=batch.names, options=reader.options, errors=errors,
        alone=[place for place, index in enumerate(batch.indices) if index in batch.warnings],
    )  # fmt: skip
    if errors:
        batch.leave_out(errors)
    return (pixels,)


def list_jpegs(folder: str | os.PathLike[str]) -> list[Path]:
    """The JPEG files directly in `folder`, by name; DatasetError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}, expected JPEG files")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in JPEG_SUFFIXES and p.is_file())
    if not files:
        raise DatasetError(f"{folder}: no JPEG files in it, expected names ending in {', '.join(JPEG_SUFFIXES)}")
    return files


def spread_evenly(files: Sequence[Path], most: int) -> list[Path]:
    """All of them, or `most` at even distances, the first among them."""
    count = min(most, len(files))
    return [files[i * len(files) // count] for i in range(count)]
