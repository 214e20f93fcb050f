"""Small objects in large photographs: overlapping windows of one reading, detected in one by one, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import prepare_inputs
from ..data.mjpeg import Frame
from ..data.reading import read_bytes, source_name
from ..detection.nms import suppress
from ..errors import JpegError, ModelError
from ..jpeg import JpegWarning, Resize
from ..jpeg.pixels import DECODERS, DEFAULT_DECODER, decode_rgb, stretch
from ..jpeg.reader import Source, read_planes
from ..jpeg.resize import resize_planes
from .detector import Detector
from .predictor import ON_ERROR, Prediction
from .sources import Sources, expand_sources

OVERLAP = 0.25  # of a window's side, shared with its neighbour
MOST_TILES = 32
_EDGE = 0.01  # of a window's side: a box that comes so close to an inner edge is taken to be cut by it

Window = tuple[int, int, int, int]  # top, left, height, width


def windows(image_size: tuple[int, int], tiles: int, overlap: float = OVERLAP) -> list[Window]:
    """`tiles` x `tiles` windows of one size that cover an image, (height, width), and the whole image in front.

    Neighbours share at least `overlap` of their side, as far as whole pixels allow.
    """
    spans = []
    for length in image_size:
        side = min(length, max(1, -int(-length // (tiles - (tiles - 1) * overlap))))
        starts = [round(i * (length - side) / max(1, tiles - 1)) for i in range(tiles)]
        spans.append([(start, side) for start in dict.fromkeys(starts)])
    found = [(top, left, height, width) for top, height in spans[0] for left, width in spans[1]]
    whole = (0, 0, *image_size)
    return [whole, *(window for window in found if window != whole)]


@dataclass
class TiledDetector:
    """Finds objects as `detector` does, in `tiles` x `tiles` windows of each photograph and in the whole of it.

    A file's entropy-coded data are decoded once.  A DCT network's windows are cut and resized in the DCT domain, an RGB
    network's in the decoded pixels.  What a window's inner edge cuts is left to the window beside it, and boxes of the
    same object to NMS over the whole picture.

    `stream` and `predict` take and give what the detector's own do.  They read in this process.
    """

    detector: Detector
    tiles: int = 2
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if not 1 <= self.tiles <= MOST_TILES:
            raise ModelError(f"tiles is {self.tiles}, expected 1 to {MOST_TILES}")
        if not 0 <= self.overlap <= 0.9:
            raise ModelError(f"overlap is {self.overlap}, expected 0 to 0.9")
        detector = self.detector
        if detector.config.is_dct and detector.preset.coefficients != "native":
            raise ModelError(
                f"{detector.config.name}: windows are cut in the DCT domain, expected coefficients 'native', not "
                f"{detector.preset.coefficients!r}"
            )

    def __getattr__(self, name: str) -> Any:
        """What else a detector has: class names, preset, runner."""
        if name == "detector":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.detector, name)

    def predict(self, sources: Sources, on_error: str = "raise") -> list[Any]:
        """As `Detector.predict`."""
        return [prediction.value for prediction in self.stream(sources, on_error)]

    def stream(self, sources: Sources, on_error: str = "raise", first_index: int = 0) -> Iterator[Prediction]:
        """As `Detector.stream`."""
        if on_error not in ON_ERROR:
            raise ModelError(f"on_error is {on_error!r}, expected one of {', '.join(ON_ERROR)}")
        return self._stream(sources, on_error, first_index)

    def _stream(self, sources: Sources, on_error: str, first_index: int) -> Iterator[Prediction]:
        for index, source in enumerate(expand_sources(sources), start=first_index):
            data: Source
            if isinstance(source, Frame):
                frame, name, data = source, str(source), source.data
            else:
                frame, name, data = None, source_name(source, index), source
            warnings: list[JpegWarning] = []
            try:
                size, value = self._find(data, name, warnings)
            except JpegError as error:
                if on_error == "raise":
                    raise
                if on_error == "report":
                    yield Prediction(index, name, error=error, frame=frame)
                continue
            yield Prediction(index, name, value, size, warnings=tuple(warnings), frame=frame)

    def _find(
        self, source: Source, name: str, warnings: list[JpegWarning]
    ) -> tuple[tuple[int, int], dict[str, Tensor]]:
        """((height, width), what was found) of one file."""
        size, cut = self._opened(source, name, warnings)
        places, found = windows(size, self.tiles, self.overlap), []
        count = self.detector.batch_size
        for start in range(0, len(places), count):
            part = places[start : start + count]
            stacked = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*map(cut, part)))
            inputs = tuple(x.permute(0, 3, 1, 2) for x in stacked)
            detector = self.detector
            ready = prepare_inputs(inputs, detector.config, detector.preset, detector.device, detector.runner.dtype)
            sizes = torch.tensor([window[2:] for window in part])
            found += detector.postprocess(detector.forward(ready), sizes)
        return size, found[0] if len(places) == 1 else self._joined(found, places, size)

    def _opened(self, source: Source, name: str, warnings: list[JpegWarning]) -> tuple[tuple[int, int], Any]:
        """((height, width), a function from a window to one item of the network's inputs) of a file, decoded once."""
        reader, config = self.detector.reader, self.detector.config
        side = config.image_size
        try:
            if not config.is_dct:
                decoder = reader.decoder if reader.decoder in DECODERS else DEFAULT_DECODER
                data = read_bytes(source, name)
                pixels = decode_rgb(data, name, decoder=decoder, options=reader.options, warnings=warnings)
                return pixels.shape[:2], lambda w: (stretch(pixels[w[0] : w[0] + w[2], w[1] : w[1] + w[3]], side),)
            planes = read_planes(source, options=reader.options, warnings=warnings)
        except JpegError as error:
            raise type(error)(name, error.reason) from None

        def cut(window: Window) -> tuple[np.ndarray, ...]:
            resize = Resize((side, side), self.detector.preset.antialias, crop=window)
            luma, chroma = resize_planes(planes, resize, requantize=self.detector.preset.requantize)
            return (luma,) if config.inputs == "dct_y" else (luma, chroma)

        return planes.image_size, cut

    def _joined(self, found: list[dict[str, Tensor]], places: list[Window], size: tuple[int, int]) -> dict[str, Tensor]:
        """What was found in windows, in pixels of each, as detections of the whole image."""
        moved = []
        for item, (top, left, height, width) in zip(found, places):
            boxes = item["boxes"] + item["boxes"].new_tensor((left, top, left, top))
            lows, highs = (left, top), (left + width, top + height)
            kept = torch.ones(len(boxes), dtype=torch.bool)
            for axis, (low, high, length) in enumerate(zip(lows, highs, (size[1], size[0]))):
                margin = _EDGE * (high - low)
                kept &= (boxes[:, axis] > low + margin) | (low == 0)
                kept &= (boxes[:, axis + 2] < high - margin) | (high == length)
            moved.append({"boxes": boxes[kept], "scores": item["scores"][kept], "labels": item["labels"][kept]})
        joined = {key: torch.cat([item[key] for item in moved]) for key in found[0]}
        order = joined["scores"].argsort(descending=True, stable=True)
        joined = {key: value[order] for key, value in joined.items()}
        nms = self.detector.nms
        kept = suppress(joined["boxes"][None], joined["labels"][None], nms.iou_threshold)[0]
        return {key: value[kept][: nms.max_total] for key, value in joined.items()}
