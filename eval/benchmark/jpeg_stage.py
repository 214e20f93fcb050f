"""What each method from a JPEG's bytes to a network's input costs, on one thread, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

from eval.benchmark.threads import threads_set_to
from jpegdeep_torch.errors import JpegDeepError
from jpegdeep_torch.jpeg import Resize, read_dct, read_planes, read_rgb, resize_batch
from jpegdeep_torch.jpeg.native import native_module
from jpegdeep_torch.jpeg.pixels import DECODERS, decode_rgb, stretch
from jpegdeep_torch.jpeg.reencode import encode_jpeg, jpeg_coefficients
from jpegdeep_torch.jpeg.resize import native_targets

SIZE = 300
BARE = "bare jpeg_read_coefficients"
READ = "read, native"
NATIVE = "native"
REENCODE = "reencode"
ANTIALIASED = "torchvision + antialiased resize"
PIXELS = "read_rgb, antialiased"
STEPS = ("header and Python", "entropy decoding", "horizontal", "vertical")


def _antialiased(data: bytes) -> torch.Tensor:
    pixels = torch.from_numpy(decode_rgb(data, decoder="torchvision")).permute(2, 0, 1)
    return transforms.resize(pixels, [SIZE, SIZE], antialias=True)


def _reencode(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    return jpeg_coefficients(encode_jpeg(stretch(decode_rgb(data, decoder="pillow"), SIZE)))


def _rgb(decoder: str) -> Callable[[bytes], np.ndarray]:
    return lambda data: stretch(decode_rgb(data, decoder=decoder, size=SIZE), SIZE)


def methods() -> dict[str, Callable[[bytes], object]]:
    """Every method that this machine has, by name: a JPEG's bytes in, a network's input out."""
    found: dict[str, Callable[[bytes], object]] = {}
    if native_module() is not None:
        found[BARE] = native_module().bare_read
        found[READ] = lambda data: read_planes(data, reader="native")
    found["read, jpeg2dct"] = lambda data: read_planes(data, reader="jpeg2dct")
    found[NATIVE] = read_dct
    found["native, requantize=75"] = lambda data: read_dct(data, requantize=75)
    found["native, antialiased"] = lambda data: read_dct(data, antialias=True)
    found["native, resized by torch"] = lambda data: resize_batch([read_planes(data)], Resize((SIZE, SIZE)))
    found[PIXELS] = lambda data: read_rgb(data, SIZE)
    found["read_rgb"] = lambda data: read_rgb(data, SIZE, antialias=False)
    found[REENCODE] = _reencode
    for decoder in DECODERS:
        found[f"{decoder} + bilinear"] = _rgb(decoder)
    if "torchvision" in DECODERS:
        found[ANTIALIASED] = _antialiased
    return found


def is_rgb(method: str) -> bool:
    return method == ANTIALIASED or method.endswith(" + bilinear")


@dataclass
class StageTimes:
    """One set of files.

    seconds: of each method, float64 (files, rounds).
    steps: seconds of each of STEPS within 'native', float64 (files, rounds, steps); None without the native module.
    """

    name: str
    files: int
    seconds: dict[str, np.ndarray]
    steps: np.ndarray | None = field(default=None)

    def per_file(self, method: str) -> np.ndarray:
        return np.median(self.seconds[method], axis=1)

    def ratio(self, method: str, to: str) -> np.ndarray:
        """Of each file's medians; `to` may be 'fastest RGB', which is each file's own fastest."""
        if to == "fastest RGB":
            below = np.min([self.per_file(other) for other in self.seconds if is_rgb(other)], axis=0)
        else:
            below = self.per_file(to)
        return self.per_file(method) / below

    def step_shares(self) -> dict[str, float]:
        if self.steps is None:
            return {}
        means = np.median(self.steps, axis=1).mean(axis=0)
        return dict(zip(STEPS, (means / means.sum()).tolist()))


def geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.log(values).mean()))


def measure(name: str, files: list[bytes], rounds: int, on_file: Callable[[], None] = lambda: None) -> StageTimes:
    """Times all methods on all files: per file, `rounds` times each in turn, after one round that does not count.

    On one thread of PyTorch's, whose number is put back.  JpegDeepError: the methods do not agree on the first file.
    """
    found = methods()
    seconds = {method: np.empty((len(files), rounds)) for method in found}
    steps = np.empty((len(files), rounds, len(STEPS))) if native_module() is not None else None
    with threads_set_to(1):
        _check(files[0])
        for i, data in enumerate(files):
            for k in range(-1, rounds):
                for method, run in found.items():
                    start = time.perf_counter()
                    run(data)
                    if k >= 0:
                        seconds[method][i, k] = time.perf_counter() - start
                if steps is not None:
                    steps[i, max(k, 0)] = _steps(data)
            on_file()
    return StageTimes(name, len(files), seconds, steps)


def _steps(data: bytes) -> tuple[float, ...]:
    """One 'native' with its inner clock on: seconds of each of STEPS."""
    start = time.perf_counter()
    file = native_module().File(data)
    resize = Resize((SIZE, SIZE))
    luma, chroma = (np.empty((*grid, depth), np.int16) for grid, depth in zip(resize.grids(), (64, 128)))
    targets = native_targets(luma, chroma, resize, file.image_size, file.sampling, None)
    middle = time.perf_counter()
    horizontal, vertical = file.resize(targets, True)
    return middle - start, time.perf_counter() - middle - horizontal - vertical, horizontal, vertical


def _check(data: bytes) -> None:
    by_torch = resize_batch([read_planes(data)], Resize((SIZE, SIZE)))
    for got, expected in zip(read_dct(data), by_torch):
        if np.abs(got.astype(np.int32) - expected[0].numpy()).max() > 1:
            raise JpegDeepError("the native kernel and PyTorch do not give the same coefficients: nothing is timed")
