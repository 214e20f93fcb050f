"""One JPEG -> one network input: what the worker processes do."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import JpegError, ModelError, UnsupportedCoding
from ..jpeg import JpegWarning, ReadOptions, Resize, check_jpeg, read_dct
from ..jpeg.markers import parse_header
from ..jpeg.options import DEFAULT_OPTIONS
from ..jpeg.pixel_input import read_pixels
from ..jpeg.pixels import (
    AT_SIZE,
    DECODER_NAMES,
    DECODERS,
    DEFAULT_DECODER,
    ON_DEVICE,
    decode_rgb,
    shorter_side_and_crop,
    stretch,
)
from ..jpeg.reader import Source, source_bytes
from ..jpeg.reencode import encode_jpeg, jpeg_coefficients
from ..models import ModelConfig
from ..presets import Preset

STAGES = ("read", "decode", "resize", "reencode")  # what a worker's time goes to; 'decode' is the entropy decoder's too


@dataclass
class Clock:
    """Milliseconds spent per stage."""

    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + (time.perf_counter() - started) * 1e3


def read_bytes(source: Source, name: str) -> bytes:
    """The file's bytes; JpegError, which calls it `name`, where it cannot be read."""
    try:
        return source_bytes(source)[1]
    except JpegError as error:
        raise JpegError(name, f"cannot be read ({error.reason})") from None


@dataclass(frozen=True)
class InputReader:
    """Reads JPEGs into the tensors that the network of `config` takes under `preset`.

    RGB: pixels (S, S, 3) uint8.  DCT: luma (H, W, 64) and, but for luma-only networks, chroma (H/2, W/2, 128), int16.
    S is the network's image size.

    A file whose coefficients only a decoder can bring to YCbCr, such as a CMYK JPEG, is read as by 'reencode' where
    `preset` says 'native', and a warning says so.  So networks on pixels and on coefficients read the same files.

    options: which files are refused, which way up a picture is, and how much memory one may take.
    """

    config: ModelConfig
    preset: Preset
    decoder: str = DEFAULT_DECODER
    options: ReadOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        if self.decoder not in DECODER_NAMES:
            raise ModelError(f"unknown decoder {self.decoder!r}: expected one of {', '.join(DECODER_NAMES)}")
        if self.config.task == "detector" and self.preset.shorter_side is not None:
            raise ModelError(
                f"preset {self.preset.name!r} cuts out an image's middle, which loses {self.config.name}'s objects "
                "beside it and shifts its boxes: expected a preset that stretches"
            )
        if self.decoder == ON_DEVICE and self.config.is_dct and self.preset.coefficients == "reencode":
            raise ModelError(f"{self.config.name}: 'reencode' needs its pixels on the CPU, not decoder {ON_DEVICE!r}")
        if self.leaves_encoded and self.preset.shorter_side is not None:
            raise ModelError(f"preset {self.preset.name!r} cuts its images on the CPU, not with decoder {ON_DEVICE!r}")

    @property
    def leaves_encoded(self) -> bool:
        """Whether a batch holds the JPEGs themselves, to be decoded where the network runs."""
        return self.decoder == ON_DEVICE and not self.config.is_dct

    def read_encoded(
        self, source: Source, name: str, clock: Clock, warnings: list[JpegWarning] | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """(the file's bytes, the image's (height, width)).  `warnings` and errors are those of `read`."""
        with clock.stage("read"):
            data = read_bytes(source, name)
            header = check_jpeg(data, name, self.options, warnings=warnings)
        return np.frombuffer(bytearray(data), np.uint8), header.image_size

    @property
    def dtype(self) -> torch.dtype:
        """Of what `read` writes."""
        return torch.int16 if self.config.is_dct else torch.uint8

    def shapes(self, count: int) -> list[tuple[int, ...]]:
        """Of the arrays of `dtype` that a batch of `count` is read into, contiguous; `read` fills one item of each."""
        size = self.config.image_size
        if self.leaves_encoded:
            return []
        if not self.config.is_dct:
            return [(count, size, size, 3)]
        rows = self.config.input_shapes()["luma"][1]
        luma = count, rows, rows, 64
        return [luma] if self.config.inputs == "dct_y" else [luma, (count, rows // 2, rows // 2, 128)]

    def read(
        self,
        source: Source,
        name: str,
        out: tuple[np.ndarray, ...],
        clock: Clock,
        warnings: list[JpegWarning] | None = None,
    ) -> tuple[int, int]:
        """Reads one file.

        Args:
            source: bytes, or a path.
            name: what messages call it.
            out: one item of arrays of `shapes`, which is filled.
            clock: is told how long each stage takes.
            warnings: what is unusual about the file is appended.

        Returns:
            (height, width) in pixels of the original image, the right way up unless `options` say otherwise.

        Raises:
            JpegError: the file is not there, or `options` refuse it.
        """
        with clock.stage("read"):
            data = read_bytes(source, name)
        return self.read_contents(data, name, out, clock, warnings)

    def read_contents(
        self,
        data: bytes,
        name: str,
        out: tuple[np.ndarray, ...],
        clock: Clock,
        warnings: list[JpegWarning] | None = None,
    ) -> tuple[int, int]:
        """`read` of a file's bytes."""
        if not (self.config.is_dct and self.preset.coefficients == "native"):
            return self._by_pixels(data, name, out, clock, warnings)
        try:
            return self._resized_coefficients(data, name, out, clock, warnings)
        except UnsupportedCoding as error:
            image_size = self._by_pixels(data, name, out, clock, warnings)
            if warnings is not None:
                warnings.append(reencoding_warning(error))
            return image_size

    def _by_pixels(
        self, data: bytes, name: str, out: tuple[np.ndarray, ...], clock: Clock, warnings: list[JpegWarning] | None
    ) -> tuple[int, int]:
        """Decoded and resized; for DCT networks then compressed again, and the coefficients of that read."""
        if self.decoder == AT_SIZE and not self.config.is_dct:
            return self._at_size(data, name, out[0], clock, warnings)
        decoder = self.decoder if self.decoder in DECODERS else DEFAULT_DECODER
        with clock.stage("decode"):
            image_size = parse_header(data, name, self.options).image_size
            pixels = decode_rgb(
                data, name, decoder=decoder, size=self.config.image_size, options=self.options, warnings=warnings
            )
        with clock.stage("resize"):
            pixels = self._fit(pixels)
        planes: tuple[np.ndarray, ...] = (pixels,)
        if self.config.is_dct:
            with clock.stage("reencode"):
                planes = jpeg_coefficients(encode_jpeg(pixels, self.preset.quality), name)
        for target, plane in zip(out, planes):
            target[...] = plane
        return image_size

    def _at_size(
        self, data: bytes, name: str, out: np.ndarray, clock: Clock, warnings: list[JpegWarning] | None
    ) -> tuple[int, int]:
        """Pixels of the network's size straight from the coefficients, by the `Resize` of a DCT network's input."""
        with clock.stage("decode"):
            try:
                read = read_pixels(
                    data, resize=self._resize(data, name), out=out, options=self.options, warnings=warnings
                )
            except JpegError as error:
                raise type(error)(name, error.reason) from None
        return read.image_size

    def _fit(self, pixels: np.ndarray) -> np.ndarray:
        size = self.config.image_size
        if self.preset.shorter_side is None:
            return stretch(pixels, size)
        return shorter_side_and_crop(pixels, self.preset.shorter_side, size)

    def _resized_coefficients(
        self, data: bytes, name: str, out: tuple[np.ndarray, ...], clock: Clock, warnings: list[JpegWarning] | None
    ) -> tuple[int, int]:
        """The file's own coefficients, resized where they are; nothing is decoded."""
        with clock.stage("decode"):
            resize = self._resize(data, name)
            target = (out[0], out[1] if len(out) > 1 else None)
            try:
                read = read_dct(
                    data, resize=resize, requantize=self.preset.requantize, out=target, chroma=len(out) > 1,
                    options=self.options, warnings=warnings,
                )  # fmt: skip
            except JpegError as error:
                raise type(error)(name, error.reason) from None
        return read.image_size

    def _resize(self, data: bytes, name: str) -> Resize:
        size, crop = self.config.image_size, None
        if self.preset.shorter_side is not None:  # the middle square that would be cut out after resizing
            header = parse_header(data, name, self.options)
            side = max(1, round(min(header.height, header.width) * size / self.preset.shorter_side))
            crop = (header.height - side) // 2, (header.width - side) // 2, side, side
        return Resize((size, size), self.preset.antialias, crop)


def reencoding_warning(error: UnsupportedCoding) -> JpegWarning:
    """Says of a file, whose own coefficients were not to be had because of `error`, how it was read instead."""
    return JpegWarning(f"{error.reason}: read as by 'reencode'")


def source_name(source: Source, index: int) -> str:
    """What messages call a source: its path, or its place in the list."""
    return f"<bytes {index}>" if isinstance(source, (bytes, bytearray, memoryview, io.BytesIO)) else str(source)
