"""A twin: a stem on coefficients, and the layers that it shares with its teacher."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.stems import DCTStem
from ..models.weights_file import is_weight
from ..utils.files import written_whole
from ..utils.messages import listed

KIND = "jpegdeep_torch stem"
FORMAT_VERSION = "1"


@dataclass(frozen=True)
class StemInfo:
    """What a file with a stem says of itself.

    stem: a key of `models.stems.STEMS`.
    teacher, layer: whose feature map it gives: what the teacher was called, and the name of the layer.
    """

    stem: str
    teacher: str
    layer: str
    out_channels: int
    stride: int
    rectified: bool = False

    def build(self) -> DCTStem:
        return DCTStem(self.stem, self.out_channels, stride=self.stride, rectified=self.rectified)


class Twin(nn.Module):
    """Luma (N, 64, H/8, W/8) and chroma (N, 128, H/16, W/16), floating point -> what the teacher gives.

    `late` holds the teacher's own modules, as they were.
    """

    def __init__(self, stem: DCTStem, late: nn.Module):
        super().__init__()
        self.stem, self.late = stem, late

    def forward(self, luma: Tensor, chroma: Tensor) -> object:
        return self.late(self.stem(luma, chroma))[1]


def save_stem(
    stem: DCTStem, info: StemInfo, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32
) -> None:
    """Writes a stem to one safetensors file, which appears only when it is complete."""
    state = {k: v.detach().to(dtype).contiguous() for k, v in stem.state_dict().items() if is_weight(k)}
    about = {key: json.dumps(value) for key, value in dataclasses.asdict(info).items()}
    with written_whole(path) as temporary:
        save_file(state, temporary, metadata={"kind": KIND, "format_version": FORMAT_VERSION, **about})


def load_stem(path: str | os.PathLike[str]) -> tuple[DCTStem, StemInfo]:
    """The stem of a file of `save_stem`, float32, in eval mode and channels-last memory.

    Raises:
        CheckpointError: the file cannot be used.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file, expected a stem")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None
    info = _info(metadata, path)
    stem = info.build()
    wanted = {key: tuple(value.shape) for key, value in stem.state_dict().items() if is_weight(key)}
    held = {key: tuple(value.shape) for key, value in tensors.items()}
    if held != wanted:
        differing = sorted(key for key in held.keys() | wanted.keys() if held.get(key) != wanted.get(key))
        raise CheckpointError(f"{path}: does not fit a {info.stem} stem: {listed(differing, ', ')}")
    stem.load_state_dict(tensors, strict=False)
    return stem.eval().to(memory_format=torch.channels_last), info


def _info(metadata: Mapping[str, str], path: object) -> StemInfo:
    if metadata.get("kind") != KIND or metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: holds no stem (kind is {metadata.get('kind')!r}, expected {KIND!r})")
    try:
        fields = {f.name: json.loads(metadata[f.name]) for f in dataclasses.fields(StemInfo)}
        info = StemInfo(**fields)
        info.build()
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read ({type(error).__name__}: {error})") from None
    return info
