"""Training images with their targets, a batch at a time: what the worker processes make."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.annotations import AnnotatedImage
from ..data.dataset import batch_buffers, prepare_inputs
from ..data.reading import Clock, InputReader, read_bytes
from ..data.shared_buffers import pack, unpack
from ..errors import DatasetError, JpegDeepError, JpegError, ModelError, UnsupportedCoding
from ..jpeg.blockwise import blockwise_dct
from ..jpeg.header import read_header
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from ..jpeg.pixels import DECODERS, DEFAULT_DECODER, decode_rgb
from ..jpeg.reencode import reencode
from ..models import ModelConfig
from ..presets import Preset
from .augmentation import (
    AugmentationConfig,
    Geometry,
    Photometric,
    augment_classification,
    augment_detection,
    draw_classifier_geometry,
    draw_detection_geometry,
    draw_photometric,
    plain_geometry,
    render_coefficients,
    render_pixels,
)

TRAINING_COEFFICIENTS = ("native", "pixels", "reencode")
_DECODERS = tuple(name for name in DECODERS if name != "pillow-draft")  # which changes the size of the image


@dataclass
class TrainingBatch:
    """What a worker hands over.

    inputs: RGB networks, and coefficients 'pixels': (pixels (N, 3, S, S) uint8 RGB,); DCT networks otherwise: (luma
        (N, 64, H, W), chroma (N, 128, H/2, W/2)) int16, or luma alone.  Channels last in memory.
    boxes: (N, M, 4) float64: xmin, ymin, xmax, ymax as fractions 0..1 of the network's input; rows of zeros after each
        image's own.  M is the most in the batch, and at least 1.  In float32 some would take other anchors.
    labels: detectors: (N, M) int64 from 1, 0 where there is no object; classifiers: (N,) int64 from 0.
    names: of the N images.
    keys: (index, seed) of each.
    data_ms: the worker's time for the whole batch.
    left_out: what was wrong with images in whose places others were read.
    """

    inputs: tuple[Tensor, ...]
    boxes: Tensor
    labels: Tensor
    names: list[str]
    keys: list[tuple[int, int]]
    data_ms: float
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        """For the way from a worker; what is small goes as it is."""
        packed = {"inputs": pack(self.inputs), "boxes": self.boxes.numpy(), "labels": self.labels.numpy()}
        return self.__dict__ | packed

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, inputs=unpack(state["inputs"]))
        self.boxes, self.labels = torch.from_numpy(state["boxes"]), torch.from_numpy(state["labels"])

    def pin_memory(self) -> TrainingBatch:
        """Called by DataLoader(pin_memory=True)."""
        self.inputs = tuple(t.pin_memory() for t in self.inputs)
        self.boxes, self.labels = self.boxes.pin_memory(), self.labels.pin_memory()
        return self


class _Samples(Dataset, ABC):
    """What detectors and classifiers share: from keys to inputs.

    Use it through a DataLoader whose sampler gives (index, seed) and whose collate_fn is `data.loader.as_it_is`.
    Everything random about an item comes from its seed; global generators are neither used nor changed.
    """

    def __init__(
        self,
        config: ModelConfig,
        preset: Preset,
        *,
        coefficients: str = "native",
        augmentation: AugmentationConfig,
        decoder: str = DEFAULT_DECODER,
        options: ReadOptions = DEFAULT_OPTIONS,
        lenient: bool = False,
    ) -> None:
        """
        Args:
            coefficients: 'native' augments the file's coefficients, and nothing is decoded (DCT networks); 'pixels'
                augments pixels, from which `prepare_training_inputs` makes coefficients for DCT networks; 'reencode'
                augments pixels, compresses them and reads the coefficients, as the reference does (DCT networks).
            options: how files are read; annotations are of pictures that are read so.
            lenient: whether other images are read in the places of those that cannot be used.

        Raises:
            ModelError: coefficients or a decoder that does not do.
        """
        if coefficients not in TRAINING_COEFFICIENTS:
            raise ModelError(
                f"unknown coefficients {coefficients!r}: expected one of {', '.join(TRAINING_COEFFICIENTS)}"
            )
        if coefficients != "pixels" and not config.is_dct:
            raise ModelError(
                f"{config.name}: takes pixels, not coefficients: expected coefficients 'pixels', not {coefficients!r}"
            )
        if decoder not in _DECODERS:
            raise ModelError(f"decoder {decoder!r} does not do for training: expected one of {', '.join(_DECODERS)}")
        if coefficients == "native" and augmentation.pixels != "opencv":
            raise ModelError(f"'native' changes coefficients, not pixels: expected augmentation by 'opencv', not "
                             f"{augmentation.pixels!r}")  # fmt: skip
        self.config, self.preset, self.coefficients = config, preset, coefficients
        self.augmentation, self.decoder = augmentation, decoder
        self.options, self.lenient = options, lenient
        # Gives the batches' memory and reads what is not to be changed: as at inference.
        taken = dataclasses.replace(config, inputs="rgb") if coefficients == "pixels" else config
        self.reader = InputReader(
            taken,
            preset if coefficients == "pixels" else dataclasses.replace(preset, coefficients=coefficients),
            decoder,
            options,
        )

    def __getitem__(self, key: tuple[int, int]) -> TrainingBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> TrainingBatch:
        """The batch of these (index, seed).

        JpegError, DatasetError: the first image that cannot be used.  If `lenient`, the next one takes its place, with
        the same seed: so a batch does not hang on who reads it, and every process has as many images as the others.
        """
        started = time.perf_counter()
        tensors, arrays = batch_buffers(self.reader, len(keys))
        targets, names, left_out = [], [], []
        for place, (index, seed) in enumerate(keys):
            out, others = tuple(array[place] for array in arrays), iter(range(1, len(self)))
            while True:
                try:
                    targets.append(self._read(index, np.random.default_rng(seed), out))
                    break
                except (JpegError, DatasetError) as error:
                    if not self.lenient or next(others, None) is None:
                        raise
                    left_out.append(str(error))
                    index = (index + 1) % len(self)
            names.append(self._name(index))
        boxes, labels = self._stack(targets)
        inputs = tuple(tensor.permute(0, 3, 1, 2) for tensor in tensors)
        data_ms = (time.perf_counter() - started) * 1e3
        return TrainingBatch(inputs, boxes, labels, names, [(int(i), int(s)) for i, s in keys], data_ms, left_out)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _name(self, index: int) -> str: ...

    @abstractmethod
    def _read(self, index: int, random: np.random.Generator, out: tuple[np.ndarray, ...]) -> Any:
        """Writes one item's inputs and returns its targets."""

    @abstractmethod
    def _stack(self, targets: list) -> tuple[Tensor, Tensor]:
        """Items' targets -> a batch's boxes and labels."""

    def _render(
        self, data: bytes, name: str, geometry: Geometry, photometric: Photometric, out: tuple[np.ndarray, ...]
    ) -> None:
        fill, preset = self.augmentation.expand_fill_rgb, self.preset
        if self.coefficients == "native":
            with suppress(UnsupportedCoding):  # such as CMYK: decoded, and compressed again
                render_coefficients(
                    data, name, geometry, photometric, fill, out, requantize=preset.requantize,
                    antialias=preset.antialias, options=self.options,
                )  # fmt: skip
                return
        rendered = out[0] if self.coefficients == "pixels" else np.empty((geometry.size, geometry.size, 3), np.uint8)
        render_pixels(self._decode(data, name), geometry, photometric, fill, rendered)
        if self.coefficients != "pixels":
            self._write(rendered, name, out)

    def _decode(self, data: bytes, name: str) -> np.ndarray:
        return decode_rgb(data, name, decoder=self.decoder, options=self.options)

    def _write(self, rendered: np.ndarray, name: str, out: tuple[np.ndarray, ...]) -> None:
        """(S, S, 3) uint8 -> one item's inputs."""
        planes = (rendered,) if self.coefficients == "pixels" else reencode(rendered, self.preset.quality, name)
        for room, plane in zip(out, planes):
            room[...] = plane

    @property
    def _by_torchvision(self) -> bool:
        return self.augmentation.enabled and self.augmentation.pixels == "torchvision"


class DetectionSamples(_Samples):
    """Annotated images as training batches of one detector."""

    def __init__(self, images: Sequence[AnnotatedImage], config: ModelConfig, preset: Preset, **settings: Any):
        """DatasetError for no images.  settings: as of _Samples."""
        super().__init__(config, preset, **settings)
        if not images:
            raise DatasetError("no images to train on: expected at least one")
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def _name(self, index: int) -> str:
        return self.images[index].name

    def _read(self, index, random, out) -> tuple[np.ndarray, np.ndarray]:
        """One image's (boxes, labels)."""
        image, name = self.images[index], str(self.images[index].path)
        size, boxes = (image.height_px, image.width_px), _boxes_inside(image)
        data = read_bytes(image.path, name)
        header = read_header(data, name, self.options)
        check_image_size(image, header.height, header.width)
        config = self.augmentation
        if self._by_torchvision:
            pixels = self._decode(data, name)
            rendered, mapped, kept = augment_detection(pixels, boxes, config, self.config.image_size, random)
            self._write(rendered, name, out)
            return mapped[kept], image.labels[kept]
        if not config.enabled:
            self.reader.read_contents(data, name, out, Clock())
            return unaugmented_targets(image, self.config.image_size)
        geometry = draw_detection_geometry(config, random, size, self.config.image_size, boxes)
        self._render(data, name, geometry, draw_photometric(config, random), out)
        mapped, kept = geometry.map_boxes(boxes, config.min_box_px)
        return mapped[kept], image.labels[kept]

    def _stack(self, targets):
        return stack_targets(targets)


def check_image_size(image: AnnotatedImage, height: int, width: int) -> None:
    """DatasetError where the picture, of `height` and `width` in pixels, is not of the size its annotation gives."""
    if (height, width) != (image.height_px, image.width_px):
        raise DatasetError(
            f"{image.path}: the picture is {width}x{height} px, expected {image.width_px}x{image.height_px}, which its "
            "annotation gives"
        )


def _boxes_inside(image: AnnotatedImage) -> np.ndarray:
    """(K, 4) float64: its boxes, in pixels, cut to the image."""
    edges = np.array((image.width_px, image.height_px) * 2, np.float64)
    return np.clip(image.boxes.astype(np.float64), 0, edges)


def unaugmented_targets(image: AnnotatedImage, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(boxes (K, 4) float64 as fractions of the image, labels (K,) int64) of the objects with an area inside it.

    size: pixels per side of the network's input, to whose grid the augmented boxes of other images are mapped as well.
    """
    mapped, kept = plain_geometry((image.height_px, image.width_px), size).map_boxes(_boxes_inside(image), 0.0)
    return mapped[kept], image.labels[kept]


def stack_targets(targets: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """(boxes, labels) of each image -> a TrainingBatch's `boxes` and `labels`."""
    most = max(1, *(len(labels) for _, labels in targets))
    boxes = np.zeros((len(targets), most, 4), np.float64)
    labels = np.zeros((len(targets), most), np.int64)
    for i, (own_boxes, own_labels) in enumerate(targets):
        boxes[i, : len(own_boxes)] = own_boxes
        labels[i, : len(own_labels)] = own_labels
    return torch.from_numpy(boxes), torch.from_numpy(labels)


class ClassificationSamples(_Samples):
    """JPEGs and their classes as training batches of one classifier: a random part of each, perhaps mirrored.

    Photometric changes are for detectors alone, as in the reference.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], config: ModelConfig, preset: Preset, **settings: Any
    ):
        """`paths` and `labels` (from 0) as `data.imagenet.ClassFolders` has them; settings: as of _Samples."""
        super().__init__(config, preset, **settings)
        if not paths or len(paths) != len(labels):
            raise DatasetError(f"{len(paths)} images and {len(labels)} labels, expected as many, and at least one")
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def _name(self, index: int) -> str:
        return str(self.paths[index])

    def _read(self, index, random, out) -> int:
        """One image's label."""
        name = self._name(index)
        data = read_bytes(self.paths[index], name)
        if self._by_torchvision:
            self._write(
                augment_classification(self._decode(data, name), self.augmentation, self.config.image_size, random),
                name,
                out,
            )
        elif self.augmentation.enabled:
            size = read_header(data, name, self.options).image_size
            geometry = draw_classifier_geometry(self.augmentation, random, size, self.config.image_size)
            self._render(data, name, geometry, Photometric(), out)
        else:
            self.reader.read_contents(data, name, out, Clock())
        return self.labels[index]

    def _stack(self, targets):
        return torch.zeros(len(targets), 1, 4, dtype=torch.float64), torch.tensor(targets, dtype=torch.int64)


class ReturningErrors(Dataset):
    """Samples whose errors are handed over in the batch's place.

    What a worker raises, PyTorch raises again with the worker's traceback for a message, and, where it is a JpegError,
    as a RuntimeError.
    """

    def __init__(self, samples: _Samples):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> TrainingBatch | JpegDeepError:
        try:
            return self.samples.__getitems__(keys)
        except JpegDeepError as error:
            error.__context__ = None  # without the frames it went through, which hold on to the batch's memory
            return error.with_traceback(None)


def prepare_training_inputs(
    inputs: Sequence[Tensor],
    config: ModelConfig,
    preset: Preset,
    coefficients: str,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, ...]:
    """A batch's inputs -> what the network takes: floating point, on `device`.

    With coefficients 'pixels' a DCT network's coefficients are made there, by a blockwise DCT, and quantised as the
    preset's `coefficients` are: `quality` for 'reencode', `requantize` (perhaps None) for 'native'.
    """
    if config.is_dct and coefficients == "pixels":
        quality = preset.quality if preset.coefficients == "reencode" else preset.requantize
        pixels = inputs[0].to(device, non_blocking=True)
        planes = blockwise_dct(pixels, quality, chroma=config.inputs != "dct_y")
        inputs = tuple(plane.permute(0, 3, 1, 2) for plane in planes)
    return prepare_inputs(inputs, config, preset, device, dtype)
