"""Which way up a data set's boxes are, and boxes turned to the way in which its pictures are read.

Cameras store photographs lying, and say so in the EXIF orientation.  Some tools annotate a picture as it is stored,
others as it is seen, upright.  The width and height that an annotation states tell which, where it turns by a quarter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import DatasetArgumentError, JpegError
from ..jpeg.markers import JpegHeader, parse_header
from ..jpeg.options import DEFAULT_OPTIONS, ORIENTATIONS, ReadOptions
from ..jpeg.orientation import TURNS, upright_size
from .annotations import AnnotatedImage, DatasetIssues
from .reading import read_bytes

_START_BYTES = 16 << 10  # frame headers lie within 1 KiB, or behind a preview
_INVERSE = {orientation: {6: 8, 8: 6}.get(orientation, orientation) for orientation in TURNS}
_TOGETHER, _THREADS = 200, 4  # a cold disk or a network answers several readers sooner than one
T = TypeVar("T")


def look_at_files(
    look: Callable[[Path], T], paths: Sequence[Path], progress: Callable[[int], object] = lambda files: None
) -> list[T]:
    """What `look` gives for each file, in order; several threads call it.

    progress: called with the number of files looked at since the last call.
    """
    found: list[T] = []
    parts = [paths[i : i + _TOGETHER] for i in range(0, len(paths), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(lambda part: [look(path) for path in part], parts):
            progress(len(part))
            found += part
    return found


def read_start(path: Path) -> bytes:
    """The file's first 16 KiB.  Raises JpegError."""
    try:
        with open(path, "rb") as file:
            return file.read(_START_BYTES)
    except OSError as error:
        raise JpegError(path, f"cannot be read ({error.strerror or error})") from None


def read_upright_header(path: Path, options: ReadOptions = DEFAULT_OPTIONS) -> JpegHeader:
    """The header of the upright picture, of the file's first 16 KiB where it is in there: about 0.04 ms.

    Raises:
        JpegError: the file cannot be read, or `options` refuse it whatever comes after its header.
    """
    upright = dataclasses.replace(options, orientation="apply")
    try:
        return parse_header(read_start(path), path, upright)
    except JpegError:  # the rest of the header may lie behind a large preview
        return parse_header(read_bytes(path, str(path)), path, upright)


def check_orientation(orientation: str | None) -> None:
    """DatasetArgumentError for what is neither 'apply', 'stored' nor None."""
    if orientation not in (None, *ORIENTATIONS):
        known = ", ".join(map(repr, ORIENTATIONS))
        raise DatasetArgumentError(f"orientation is {orientation!r}, expected one of {known}, or None")


def find_turns(
    images: Sequence[AnnotatedImage],
    issues: DatasetIssues,
    orientation: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[int | None]:
    """Each image's turn, from the way in which it is annotated to that in which its picture is read.

    A picture whose header cannot be read is not turned: whoever reads it will say so.

    Args:
        images: of one data set, with the sizes that it states.
        issues: 'picture of another size' goes there; if lenient, such an image's turn is None.
        orientation: whether the annotations are of the upright pictures ('apply') or of the stored ones ('stored');
            default: what the sizes fit of most pictures that lie on their side, 'apply' where there are none.
        options: how the pictures will be read.

    Returns:
        Numbers 1 to 8 as EXIF has them, for `turn_image`.

    Raises:
        DatasetError: with strict `issues`, for the first picture that is of another size than is stated.
    """
    check_orientation(orientation)

    def look(path: Path) -> JpegHeader | None:
        try:
            return read_upright_header(path, options)
        except JpegError:
            return None

    headers = look_at_files(look, [image.path for image in images])
    orientation = orientation or _told_by_sizes(zip(images, headers))
    turns: list[int | None] = []
    for image, header in zip(images, headers):
        if header is None:
            turns.append(1)
        elif (image.height_px, image.width_px) != size_in(header, orientation):
            issues.report("picture of another size", _of_another_size(image, header, orientation))
            turns.append(None)
        else:
            turns.append(turn_between(header, orientation, options.orientation))
    return turns


def size_in(header: JpegHeader, orientation: str) -> tuple[int, int]:
    """(height, width) of the picture, upright ('apply') or as it is stored; `header` is the upright picture's."""
    return header.image_size if orientation == "apply" else header.stored_size


def turn_between(header: JpegHeader, orientation: str, wanted: str) -> int:
    """The turn from `orientation` to the `wanted` one, both 'apply' or 'stored'; `header` is the upright picture's."""
    if orientation == wanted:
        return 1
    return header.orientation if wanted == "apply" else _INVERSE[header.orientation]


def turn_image(image: AnnotatedImage, turn: int, first_px: float = 0.0) -> AnnotatedImage:
    """The image turned as EXIF's orientation `turn` says.  first_px: see `turn_boxes`."""
    if turn == 1:
        return image
    size = image.height_px, image.width_px
    height, width = upright_size(size, turn)
    boxes = turn_boxes(image.boxes, size, turn, first_px)
    return dataclasses.replace(image, height_px=height, width_px=width, boxes=boxes)


def turn_boxes(boxes: np.ndarray, size: tuple[int, int], orientation: int, first_px: float = 0.0) -> np.ndarray:
    """(K, 4) boxes in a picture of `size` (height, width) -> (K, 4) in the picture turned as EXIF's `orientation` says.

    first_px: the number of the first pixel where a box's last pixel is part of it, as in VOC, which counts from 1; 0
        where corners are edges.
    """
    turn, (height, width) = TURNS[orientation], size
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    if turn.transpose:
        x, y, height, width = y, x, width, height
    if turn.flip_horizontal:
        x = width + first_px - x[:, ::-1]
    if turn.flip_vertical:
        y = height + first_px - y[:, ::-1]
    return np.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), axis=1)


def _told_by_sizes(pairs: Iterable[tuple[AnnotatedImage, JpegHeader | None]]) -> str:
    fits = {"apply": 0, "stored": 0}
    for image, header in pairs:
        if header is not None and header.image_size != header.stored_size:
            for orientation in fits:
                fits[orientation] += (image.height_px, image.width_px) == size_in(header, orientation)
    return "stored" if fits["stored"] > fits["apply"] else "apply"


def _of_another_size(image: AnnotatedImage, header: JpegHeader, orientation: str) -> str:
    height, width = header.image_size
    upright = ""
    if header.image_size != header.stored_size:
        upright = f" upright and {height}x{width} px as stored"
    text = f"{image.path}: {width}x{height} px{upright}, expected {image.width_px}x{image.height_px}, which its " \
           "annotation gives"  # fmt: skip
    if (image.height_px, image.width_px) in (header.image_size, header.stored_size):
        text += (
            f"; but this set's are of the {'upright' if orientation == 'apply' else 'stored'} pictures (orientation)"
        )
    return text
