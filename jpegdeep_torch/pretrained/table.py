"""Weights that have a name, as rows of one table: where each comes from, under which licence, and what it takes.

To add weights that this package brings along, put the safetensors file into `pretrained/files` and add a row by
`shipped`.  To add weights that have to be made first, give the row a function that makes the file (see `_torchvision`).
"""

from __future__ import annotations

import fnmatch
import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..models import MODELS, model_from_file
from ..models.stem_file import load_stem, put_on_stem
from ..torch_checkpoints import convert_torchvision
from ..torch_checkpoints.networks import NETWORKS, TorchNetwork
from ..weights import save_weights

FILES = Path(__file__).parent / "files"  # weights that the package brings along
_NOTHING = "nothing: the file is in the package"


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights of one network that have a name.

    name: what a caller asks for.  Several networks may have weights of one name, as torchvision's.
    model: the network, a row of `list_models()`.
    source: whose they are, and which.
    licence: of the weights, and what else binds who uses them.
    sha256: of the source's file, or its beginning; a file with another is refused.
    takes: what getting them takes, such as a download.
    opened: gives the safetensors file, for as long as the `with` block lasts.
    """

    name: str
    model: str
    source: str
    licence: str
    sha256: str
    takes: str
    opened: Callable[[], AbstractContextManager[Path]]

    @property
    def task(self) -> str:
        """'detector' or 'classifier'."""
        return MODELS[self.model].task

    @property
    def is_shipped(self) -> bool:
        """Whether the file is in the package."""
        return self.takes == _NOTHING


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    yield path


def shipped(name: str, model: str, file: str, *, source: str, licence: str, sha256: str) -> PretrainedWeights:
    """The row of `file`, a safetensors file in FILES."""
    opened = functools.partial(_in_place, FILES / file)
    return PretrainedWeights(name, model, source, licence, sha256, _NOTHING, opened)


@contextmanager
def _converted(network: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield convert_torchvision(network, Path(folder) / "weights.safetensors").output


def _torchvision(row: TorchNetwork) -> PretrainedWeights:
    return PretrainedWeights(
        "torchvision", row.model, f"torchvision's {row.weights}",
        "BSD 3-Clause; the pictures that they were trained on have terms of their own", row.weights_sha256,
        f"{row.megabytes} MB from torch.hub's cache, or downloaded to it as torchvision does",
        functools.partial(_converted, row.name),
    )  # fmt: skip


@contextmanager
def _on_stem(network: str, model: str, file: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        rgb = model_from_file(convert_torchvision(network, Path(folder) / "rgb.safetensors").output)
        stem, _ = load_stem(FILES / file)
        path = Path(folder) / "weights.safetensors"
        save_weights(put_on_stem(rgb, stem, model), path, rgb.info.preset, coefficients="native")
        yield path


def _stem_of_ours(network: str, model: str, file: str) -> PretrainedWeights:
    """The row of a stem in FILES, made by `twins.make_twin`, in front of torchvision's layers."""
    (row,) = (row for row in NETWORKS if row.name == network)
    theirs = _torchvision(row)
    return PretrainedWeights(
        "imagenet", model, f"a stem of ours (docs/twins.md), later layers of {theirs.source}",
        f"the stem: Apache-2.0; the later layers: {theirs.licence}", theirs.sha256, theirs.takes,
        functools.partial(_on_stem, network, model, file),
    )  # fmt: skip


WEIGHTS: tuple[PretrainedWeights, ...] = (
    *map(_torchvision, NETWORKS),
    _stem_of_ours("mobilenet_v2", "mobilenet_v2_dct_small", "mobilenet_v2_stem_small.safetensors"),
    shipped(
        "bccd", "ssd300_mobilenet_v2_dct_small", "bccd.safetensors",
        source="ours, trained on BCCD (docs/detectors.md)",
        licence="the weights: Apache-2.0; BCCD: MIT; torchvision's ImageNet weights of MobileNetV2: BSD 3-Clause",
        sha256="4c49e8475017e6e588521e74df66df7f5fd1f22485c4b92d48aec9b7b58eecf9",
    ),
)  # fmt: skip


def is_name(weights: object) -> bool:
    """Whether `weights` is the name of a row, and there is no such file."""
    return isinstance(weights, str) and any(row.name == weights for row in WEIGHTS) and not Path(weights).is_file()


def list_weights(pattern: str = "*") -> list[str]:
    """The names of weights that match a shell pattern, sorted: what `Detector.load` and others take for a file."""
    return sorted({row.name for row in WEIGHTS if fnmatch.fnmatchcase(row.name, pattern)})


def find_weights(name: str, model: str | None = None, task: str | None = None) -> PretrainedWeights:
    """The row of that name, for the network `model` or for a `task` where given.

    Raises:
        ModelError: there is none, or more than one.
    """
    named = [row for row in WEIGHTS if row.name == name]
    if not named:
        known = ", ".join(dict.fromkeys(row.name for row in WEIGHTS))
        raise ModelError(f"unknown weights {name!r}: expected one of {known}, or a file")
    fitting = [row for row in named if model in (None, row.model) and task in (None, row.task)]
    if len(fitting) != 1:
        wanted = model or task or "one network"
        raise ModelError(
            f"weights {name!r}: {'several' if fitting else 'none'} for {wanted}; they are for "
            + ", ".join(row.model for row in named)
        )
    return fitting[0]
