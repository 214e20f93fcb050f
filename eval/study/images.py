"""The JPEGs of a study: every network gets the same ones, and each can be read by all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.benchmark.photos import builtin_jpegs, described
from jpegdeep_torch.data import list_jpegs
from jpegdeep_torch.data.dataset import JpegDataset, spread_evenly
from jpegdeep_torch.data.reading import Source, read_bytes, source_name
from jpegdeep_torch.errors import DatasetError, JpegError
from jpegdeep_torch.jpeg.pixels import DEFAULT_DECODER
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset

MOST = 256  # of a folder's files: they are held in memory, so that no disk is timed


@dataclass(frozen=True)
class Pictures:
    """`what`: in words.  `left_out`: of each file that not all networks can read, why, its name first."""

    jpegs: list[bytes]
    what: str
    left_out: list[str]

    def settings(self) -> dict[str, Any]:
        """What figures hang on."""
        digest = hashlib.sha256()
        for data in self.jpegs:
            digest.update(hashlib.sha256(data).digest())
        return {"what": self.what, "files": len(self.jpegs), "sha256": digest.hexdigest()}


def builtin_pictures(seed: int = 0) -> Pictures:
    """32 photographs, which all can read.  DatasetError without scikit-image."""
    jpegs = builtin_jpegs(seed=seed)
    return Pictures(jpegs, described(len(jpegs)), [])


def pictures_of(
    folder: str,
    models: Sequence[str],
    ways: Sequence[str],
    decoder: str = DEFAULT_DECODER,
    most: int = MOST,
    on_file: Callable[[], object] = lambda: None,
) -> Pictures:
    """Up to `most` JPEGs of `folder`, spread evenly over it, that `models` can read by all of `ways` to coefficients.

    DatasetError for a folder without JPEGs, or where none of those taken can be read.
    """
    files = list_jpegs(folder)
    taken = spread_evenly(files, most)
    jpegs, left_out = [], []
    for place, file in enumerate(taken):
        try:
            jpegs.append(_readable(file, source_name(file, place), models, ways, decoder))
        except JpegError as error:
            left_out.append(str(error))
        on_file()
    if not jpegs:
        raise DatasetError(f"{folder}: none of {len(taken)} JPEGs can be read by all networks, such as: {left_out[0]}")
    count = f"{len(jpegs)} files" if len(jpegs) == len(files) else f"{len(jpegs)} of {len(files)} files"
    return Pictures(jpegs, f"{folder} ({count})", left_out)


def _readable(file: Source, name: str, models: Sequence[str], ways: Sequence[str], decoder: str) -> bytes:
    """Its bytes.  JpegError where one of the networks cannot be fed with them."""
    data = read_bytes(file, name)
    for config in map(model_config, models):
        for way in ways if config.is_dct else (None,):
            dataset = JpegDataset([data], config, get_preset("voc", way), decoder=decoder, names=[name])
            for _, error in dataset[0].errors:
                raise error
    return data
