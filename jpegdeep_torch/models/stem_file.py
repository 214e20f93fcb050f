"""The file format of stems: one safetensors file, which says of itself all that is needed to build its stem."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError, ModelError
from ..utils.messages import listed
from . import create_model
from .config import MODELS
from .network import Network
from .stems import DCTStem
from .weights_file import is_weight, write_safetensors

KIND = "jpegdeep_torch stem"
FORMAT_VERSION = "1"


@dataclass(frozen=True)
class StemInfo:
    """What a file with a stem says of itself.

    stem: a key of `models.stems.STEMS`.
    teacher, layer: whose feature map it gives: what the teacher was called, and the name of the layer.
    out_channels, stride, rectified, width: those of DCTStem.
    """

    stem: str
    teacher: str
    layer: str
    out_channels: int
    stride: int
    rectified: bool = False
    width: float = 1.0

    def build(self) -> DCTStem:
        return DCTStem(self.stem, self.out_channels, stride=self.stride, rectified=self.rectified, width=self.width)


def save_stem(stem: DCTStem, info: StemInfo, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Writes a stem to one safetensors file, which appears only when it is complete.

    half: the convolutions' weights as float16; not the normalisations', among whose variances are larger numbers.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in stem.state_dict().items() if is_weight(k)}
    if half:
        state = {k: v.half() if v.ndim == 4 else v for k, v in state.items()}
    about = {key: json.dumps(value) for key, value in dataclasses.asdict(info).items()}
    write_safetensors(state, path, {"kind": KIND, "format_version": FORMAT_VERSION, **about})


def load_stem(path: str | os.PathLike[str]) -> tuple[DCTStem, StemInfo]:
    """The stem of a file of `save_stem`, float32, in eval mode.

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
    return stem.eval(), info


def _info(metadata: Mapping[str, str], path: object) -> StemInfo:
    if metadata.get("kind") != KIND or metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: holds no stem (kind is {metadata.get('kind')!r}, expected {KIND!r})")
    try:
        names = metadata.keys() & {f.name for f in dataclasses.fields(StemInfo)}
        info = StemInfo(**{name: json.loads(metadata[name]) for name in names})
        info.build()
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be read ({type(error).__name__}: {error})") from None
    return info


def rows_with_stem(network: Network, stem: str) -> list[str]:
    """Names of the networks of the table that are `network` but for such a stem, on luma and chroma."""
    own = network.config
    return [
        name
        for name, row in MODELS.items()
        if (row.family, row.task, row.inputs) == (own.family, own.task, "dct")
        and getattr(row.trunk, "stem", "") == stem
    ]


def put_on_stem(network: Network, stem: DCTStem, name: str) -> Network:
    """The network `name` of the table, made of a stem and of the layers of an RGB network; in eval mode.

    Raises:
        ModelError: `name` has layers that neither has, or of other shapes.
    """
    own = network.config
    scales = own.anchor_scales if own.task == "detector" else None
    twin = create_model(name, own.num_classes, scales, width=own.width)
    held = network.state_dict() | {f"stem.{key}": value for key, value in stem.state_dict().items()}
    wanted = twin.state_dict()
    wrong = [key for key, value in wanted.items() if key not in held or held[key].shape != value.shape]
    if wrong:
        raise ModelError(f"{name}: cannot be made of {own.name} and a stem: {listed(wrong, ', ')}")
    twin.load_state_dict({key: held[key] for key in wanted})
    return twin.eval()
