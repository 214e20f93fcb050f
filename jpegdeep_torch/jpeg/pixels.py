"""JPEG bytes -> RGB pixels at a network's size, by the libraries that decode."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Container, Sequence
from contextlib import suppress

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torchvision.io import ImageReadMode

from ..errors import JpegError, ModelError
from .header import OpenedJpeg, open_jpeg
from .markers import JpegHeader, parse_header
from .native import native_module
from .options import DEFAULT_OPTIONS, JpegWarning, ReadOptions
from .orientation import TURNS, Turn, turn_upright

_LARGEST_RESIZED_PX = 1 << 24  # of a picture that is resized whole before its middle is cut out
_LARGEST_COPIED_PX = 1 << 24  # of a picture that a library decodes: Pillow holds about 14 bytes per pixel
_LARGEST_ON_DEVICE_PX = 1 << 25  # of a picture that nvJPEG decodes; as floating point it takes 400 MB


def use_one_opencv_thread() -> None:
    """Makes OpenCV run without threads of its own in this process.

    For a loader's worker processes, forked or spawned: each would start a thread per core on its first resize, and
    together they would fight for the cores.
    """
    cv2.setNumThreads(0)


def _pillow(data: bytes, size: int) -> np.ndarray:
    with JpegImageFile(io.BytesIO(data)) as image:  # not Image.open: its limit of pixels is not ours
        return np.asarray(image.convert("RGB"))


def _pillow_draft(data: bytes, size: int) -> np.ndarray:
    """Decodes at 1/2, 1/4 or 1/8 of the size where that is still at least `size`: faster, other pixels."""
    with JpegImageFile(io.BytesIO(data)) as image:
        if size:
            image.draft("RGB", (size, size))
        return np.asarray(image.convert("RGB"))


def _torchvision(data: bytes, size: int) -> np.ndarray:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = torchvision.io.decode_jpeg(encoded, mode=ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).contiguous().numpy()


DECODERS: dict[str, Callable[[bytes, int], np.ndarray]] = {
    "native": _pillow,  # where nothing native was built, and for CMYK
    "pillow": _pillow,
    "pillow-draft": _pillow_draft,
}
if hasattr(torchvision.io, "decode_jpeg"):  # deprecated since torchvision 0.29: it will go one day
    DECODERS["torchvision"] = _torchvision
ON_DEVICE = "torchvision-device"  # workers only read; torchvision decodes a batch where the network runs (nvJPEG)
AT_SIZE = "native-resized"  # no picture of the file's own size: `read_rgb` makes the network's from the coefficients
DECODER_NAMES = (*DECODERS, AT_SIZE, ON_DEVICE)
DEFAULT_DECODER = "native"  # the same pixels as of the others, in one pass with the verdict


def decode_rgb(
    data: bytes,
    name: object = "<bytes>",
    *,
    decoder: str = "pillow",
    size: int = 0,
    options: ReadOptions = DEFAULT_OPTIONS,
    warnings: list[JpegWarning] | None = None,
) -> np.ndarray:
    """Decodes a whole JPEG to (H, W, 3) uint8 RGB.

    The same files are refused as of coefficients, whatever the decoder.  'native' says so while it decodes; for the
    others the entropy coding is decoded first.  torchvision prints warnings: files that have some go
    to Pillow instead.  Pictures of more than 16 megapixels go to 'native' where it was built, which holds one copy.

    Args:
        data: the file.
        name: what messages call it.
        decoder: one of `DECODERS`.  'native' is libjpeg by our own reader; Pillow where that was not built.
        size: the side in pixels that is wanted in the end.  Only the decoder 'pillow-draft' makes use of it.
        options: what is refused, and which way up the picture is.
        warnings: what is unusual about the file is appended.

    Raises:
        ModelError: an unknown decoder.
        JpegError: a file that the options refuse, or that the decoder does not take.
    """
    if decoder not in DECODERS:
        raise ModelError(f"unknown decoder {decoder!r}: expected one of {', '.join(DECODERS)}")
    opened = open_jpeg(data, name, options)
    header = opened.header
    decoder = "native" if _is_large(header, decoder, size) else decoder
    if decoder == "native" and native_module() is not None and header.components != 4:
        pixels = opened.decode("pixels", *TURNS[header.orientation])
    else:
        opened.check()
        pixels = _decode(opened, decoder, size)
    if warnings is not None:
        warnings += opened.warnings
    return pixels


def _is_large(header: JpegHeader, decoder: str, size: int) -> bool:
    reduces = decoder == "pillow-draft" and 0 < 2 * size <= min(header.image_size)
    return header.height * header.width > _LARGEST_COPIED_PX and not reduces


def _decode(opened: OpenedJpeg, decoder: str, size: int) -> np.ndarray:
    """The upright picture of a checked file by a library; by libjpeg alone where that does not take it."""
    header = opened.header
    if decoder == "torchvision" and (opened.warnings or native_module() is None):
        decoder = "pillow"  # not all warnings are known where nothing native was built
    try:
        return turn_upright(DECODERS[decoder](opened.data, size), header.orientation)
    except Exception as error:  # each library raises its own: OSError, RuntimeError, SyntaxError, ValueError, ...
        if native_module() is None or header.components == 4:
            raise JpegError(opened.name, f"cannot be decoded by {decoder} ({_reason(error)})") from None
    warnings = list(opened.warnings)
    pixels = opened.decode("pixels", *TURNS[header.orientation])  # by the library that took it and warned of it
    opened.warnings = warnings
    return pixels


def _reason(error: Exception) -> str:
    """The first line of a library's message, without the place in its source that torchvision begins with."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return re.sub(r"^\w+, \S+:\d+,?\s*", "", line)


def decode_on_device(
    encoded: Sequence[Tensor],
    size: int,
    device: torch.device | str,
    *,
    names: Sequence[object] | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
    alone: Container[int] = (),
    errors: list[tuple[int, JpegError]] | None = None,
) -> Tensor:
    """Decodes JPEGs on a GPU, as one batch by `torchvision.io.decode_jpeg` and nvJPEG.

    What is out of the ordinary, and all of them where nvJPEG does not take one and for the CPU, is decoded file by file
    as `decode_rgb` does.  Whoever read the files has checked them.
    Stretched bilinearly without antialiasing, as `stretch` does, to within one value.

    Args:
        encoded: (bytes,) uint8 each, in CPU memory.
        size: the side of the result in pixels.
        device: where the result is.
        names: what messages call the files.
        options: those of `decode_rgb`.
        alone: the places of files that are not for nvJPEG, such as those that gave a warning.
        errors: where given, each file that cannot be decoded is appended with its place, and left out of the result.

    Returns:
        (N, 3, size, size) uint8 RGB on `device`, channels last.

    Raises:
        JpegError: the first file that cannot be decoded, unless there are `errors`.
    """
    device = torch.device(device)
    names = names or [f"image {i} of the batch" for i in range(len(encoded))]
    contents = [data.numpy().tobytes() for data in encoded]
    images: dict[int, Tensor] = {}
    if device.type != "cpu":
        headers = {place: _ordinary(data, options) for place, data in enumerate(contents) if place not in alone}
        turns = {place: TURNS[header.orientation] for place, header in headers.items() if header is not None}
        with suppress(RuntimeError):
            files = [encoded[place] for place in turns]
            decoded = torchvision.io.decode_jpeg(files, mode=ImageReadMode.RGB, device=device) if files else []
            images = {place: _turned(image, turn) for (place, turn), image in zip(turns.items(), decoded)}
    pixels = torch.empty((len(contents), 3, size, size), dtype=torch.uint8, device=device)
    pixels = pixels.to(memory_format=torch.channels_last)
    count = 0
    for place, (data, name) in enumerate(zip(contents, names)):
        try:
            pixels[count].copy_(
                _stretched(images[place], size) if place in images else _alone(data, name, size, options)
            )
        except JpegError as error:
            if errors is None:
                raise
            errors.append((place, error.with_traceback(None)))
            continue
        count += 1
    return pixels[:count]


def _ordinary(data: bytes, options: ReadOptions) -> JpegHeader | None:
    """The header of a file that nvJPEG decodes as libjpeg does, and that does not take much of a GPU's memory."""
    try:
        header = parse_header(data, options=options)
    except JpegError:
        return None
    plain = header.colour in ("gray", "ycbcr") and not header.arithmetic and not header.unusual
    return header if plain and header.height * header.width <= _LARGEST_ON_DEVICE_PX else None


def _stretched(image: Tensor, size: int) -> Tensor:
    resized = F.interpolate(image[None].float(), (size, size), mode="bilinear", align_corners=False)
    return resized[0].round()


def _alone(data: bytes, name: object, size: int, options: ReadOptions) -> Tensor:
    pixels = stretch(decode_rgb(data, name, decoder="native", options=options), size)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _turned(image: Tensor, turn: Turn) -> Tensor:
    """(3, H, W) as stored -> the upright picture."""
    if turn.transpose:
        image = image.mT
    flips = [axis for axis, flip in ((1, turn.flip_vertical), (2, turn.flip_horizontal)) if flip]
    return image.flip(flips) if flips else image


def stretch(pixels: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> (size, size, 3) by OpenCV's bilinear resizing, without antialiasing: what the networks saw."""
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)


def shorter_side_and_crop(pixels: np.ndarray, shorter: int, size: int) -> np.ndarray:
    """Resizes the shorter side to `shorter` pixels and cuts the middle `size` x `size`: ImageNet's protocol."""
    height, width = pixels.shape[:2]
    scale = shorter / min(height, width)
    resized_size = max(shorter, round(height * scale)), max(shorter, round(width * scale))
    top, left = ((side - size) // 2 for side in resized_size)
    if resized_size[0] * resized_size[1] > _LARGEST_RESIZED_PX:
        return _middle_of_resized(pixels, resized_size, (top, left), size)
    resized = cv2.resize(pixels, resized_size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized[top : top + size, left : left + size])


def _middle_of_resized(
    pixels: np.ndarray, resized_size: tuple[int, int], corner: tuple[int, int], size: int
) -> np.ndarray:
    """That part of a bilinearly resized picture alone, as cv2 makes it to within one value.

    A strip of 1 x 20,000 pixels resized whole would take 4 GB.
    """
    low, share = [], []
    for length, resized, first in zip(pixels.shape, resized_size, corner):
        at = np.clip((np.arange(first, first + size) + 0.5) * (length / resized) - 0.5, 0, length - 1)
        low.append(at.astype(int))
        share.append(at - low[-1])
    high = [np.minimum(at + 1, length - 1) for at, length in zip(low, pixels.shape)]
    down, across = share[0][:, None, None], share[1][None, :, None]
    rows = [
        pixels[np.ix_(at, low[1])] * (1 - across) + pixels[np.ix_(at, high[1])] * across for at in (low[0], high[0])
    ]
    return np.rint(rows[0] * (1 - down) + rows[1] * down).astype(np.uint8)
