"""JPEG bytes -> RGB pixels at a network's size, by the libraries that decode."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode

from ..errors import JpegError, ModelError


def use_one_opencv_thread() -> None:
    """Makes OpenCV run without threads of its own in this process.

    For a loader's worker processes, forked or spawned: each would start a thread per core on its first resize, and
    together they would fight for the cores.
    """
    cv2.setNumThreads(0)


def _pillow(data: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _pillow_draft(data: bytes, size: int) -> np.ndarray:
    """Decodes at 1/2, 1/4 or 1/8 of the size where that is still at least `size`: faster, other pixels."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (size, size))
        return np.asarray(image.convert("RGB"))


def _torchvision(data: bytes, size: int) -> np.ndarray:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = torchvision.io.decode_jpeg(encoded, mode=ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).contiguous().numpy()


DECODERS: dict[str, Callable[[bytes, int], np.ndarray]] = {"pillow": _pillow, "pillow-draft": _pillow_draft}
if hasattr(torchvision.io, "decode_jpeg"):  # deprecated since torchvision 0.29: it will go one day
    DECODERS["torchvision"] = _torchvision
ON_DEVICE = "torchvision-device"  # workers only read; torchvision decodes a batch where the network runs (nvJPEG)
DECODER_NAMES = (*DECODERS, ON_DEVICE)
DEFAULT_DECODER = "torchvision" if "torchvision" in DECODERS else "pillow"  # the faster; the same pixels


def decode_rgb(data: bytes, name: object = "<bytes>", *, decoder: str = "pillow", size: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a whole JPEG (see `read_header`); JpegError where it cannot be decoded.

    `size`: the side in pixels that is wanted in the end; only the decoder 'pillow-draft' makes use of it.
    """
    if decoder not in DECODERS:
        raise ModelError(f"unknown decoder {decoder!r}: expected one of {', '.join(DECODERS)}")
    try:
        return DECODERS[decoder](data, size)
    except Exception as error:  # each library raises its own: OSError, RuntimeError, SyntaxError, ValueError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JpegError(name, f"cannot be decoded by {decoder} ({reason})") from None


def decode_on_device(encoded: Sequence[Tensor], size: int, device: torch.device | str) -> Tensor:
    """JPEGs (bytes,) uint8 each, in CPU memory -> (N, 3, size, size) uint8 RGB on `device`, channels last.

    Decoded as one batch by `torchvision.io.decode_jpeg`, on a GPU by nvJPEG; a file that it does not take is decoded on
    the CPU.  Stretched bilinearly without antialiasing, as `stretch` does, to within one value.  JpegError.
    """
    device = torch.device(device)
    try:
        images = torchvision.io.decode_jpeg(list(encoded), mode=ImageReadMode.RGB, device=device)
    except RuntimeError:
        images = [_decoded_alone(data, i, device) for i, data in enumerate(encoded)]
    pixels = torch.empty((len(images), 3, size, size), dtype=torch.uint8, device=device)
    pixels = pixels.to(memory_format=torch.channels_last)
    for place, image in zip(pixels, images):
        resized = F.interpolate(image[None].float(), (size, size), mode="bilinear", align_corners=False)
        place.copy_(resized[0].round())
    return pixels


def _decoded_alone(data: Tensor, index: int, device: torch.device) -> Tensor:
    try:
        return torchvision.io.decode_jpeg(data, mode=ImageReadMode.RGB).to(device)
    except RuntimeError as error:
        raise JpegError(f"image {index} of the batch", f"cannot be decoded by torchvision ({error})") from None


def stretch(pixels: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> (size, size, 3) by OpenCV's bilinear resizing, without antialiasing: what the networks saw."""
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)


def shorter_side_and_crop(pixels: np.ndarray, shorter: int, size: int) -> np.ndarray:
    """Resizes the shorter side to `shorter` pixels and cuts the middle `size` x `size`: ImageNet's protocol."""
    height, width = pixels.shape[:2]
    scale = shorter / min(height, width)
    height, width = max(shorter, round(height * scale)), max(shorter, round(width * scale))
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(resized[top : top + size, left : left + size])
