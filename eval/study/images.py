"""The JPEGs of a study: every network gets the same ones, and each can be read by all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.benchmark.photos import builtin_jpegs, described
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.data.dataset import read_batch, spread_evenly
from jpegdeep_torch.data.reading import InputReader, Source, read_bytes, source_name
from jpegdeep_torch.errors import DatasetError, JpegError
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset

MOST = 256  # of a folder's files: they are held in memory, so that no disk is timed


@dataclass(frozen=True)
class StudyImages:
    """`what` they are, in words.  `left_out` says of each file that not all networks can read why, its name first."""

    jpegs: list[bytes]
    what: str
    left_out: list[str]

    def settings(self) -> dict[str, Any]:
        """What the figures depend on, for the study's settings."""
        digest = hashlib.sha256()
        for data in self.jpegs:
            digest.update(hashlib.sha256(data).digest())
        return {"what": self.what, "files": len(self.jpegs), "sha256": digest.hexdigest()}


def builtin_images(seed: int = 0) -> StudyImages:
    """32 photographs, which all can read.  DatasetError without scikit-image."""
    jpegs = builtin_jpegs(seed=seed)
    return StudyImages(jpegs, described(len(jpegs)), [])


def images_from(
    folder: str,
    models: Sequence[str],
    kinds: Sequence[str],
    decoder: str = DEFAULT_DECODER,
    most: int = MOST,
    on_file: Callable[[], object] = lambda: None,
) -> StudyImages:
    """Up to `most` JPEGs of `folder`, spread evenly over it, that all `models` can read.

    kinds: of coefficients, by all of which DCT networks must be able to read them.

    Raises DatasetError for a folder without JPEGs, or where none of those taken can be read.
    """
    files = list_jpegs(folder)
    taken = spread_evenly(files, most)
    jpegs, left_out = [], []
    for place, file in enumerate(taken):
        try:
            jpegs.append(_readable(file, source_name(file, place), models, kinds, decoder))
        except JpegError as error:
            left_out.append(str(error))
        on_file()
    if not jpegs:
        raise DatasetError(f"{folder}: none of {len(taken)} JPEGs can be read by all networks, such as: {left_out[0]}")
    count = f"{len(jpegs)} files" if len(jpegs) == len(files) else f"{len(jpegs)} of {len(files)} files"
    return StudyImages(jpegs, f"{folder} ({count})", left_out)


def _readable(file: Source, name: str, models: Sequence[str], kinds: Sequence[str], decoder: str) -> bytes:
    """Its bytes.  JpegError where one of the networks cannot be fed with them."""
    data = read_bytes(file, name)
    for config in map(model_config, models):
        for kind in kinds if config.is_dct else (None,):
            for _, error in read_batch(InputReader(config, get_preset("voc", kind), decoder), [(0, data, name)]).errors:
                raise error
    return data
