"""What an engine file says of itself, and whether it was built from the weights at hand."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..models import Network
from ..models.config import PUBLISHED_RULES
from ..utils.files import sha256_of
from ..weights import WeightsInfo, describe

FORMAT_VERSION = 1
KEY = "jpegdeep_torch"  # the name of the description in a file's metadata


@dataclass(frozen=True)
class EngineDescription:
    """What an engine file says of itself."""

    backend: str
    precision: str
    batch_sizes: tuple[int, ...]
    model: str
    num_classes: int
    anchor_scales: tuple[float, ...] | None
    preset: str
    inputs: dict[str, tuple[int, int, int]]
    class_names: tuple[str, ...] | None = None
    nms: dict[str, float] | None = None  # of a file that ends in boxes
    weights_file: str | None = None
    weights_sha256: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    gpu: str | None = None
    mean: tuple[float, ...] | None = None  # in place of the preset's
    box_rules: dict[str, object] | None = None  # where they are not the papers'
    data_sha256: str | None = None  # of a second file that belongs to this one
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, path: object) -> EngineDescription:
        """CheckpointError where it is of another format or incomplete."""
        try:
            values = json.loads(text)
            found = values["format_version"]
            if found != FORMAT_VERSION:
                raise CheckpointError(
                    f"{path}: is of engine format {found}, this jpegdeep_torch reads {FORMAT_VERSION}: build it again"
                )
            for name in ("batch_sizes", "anchor_scales", "class_names", "mean"):
                values[name] = tuple(values[name]) if values.get(name) is not None else None
            values["inputs"] = {name: tuple(shape) for name, shape in values["inputs"].items()}
            return cls(**values)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: its description cannot be read ({type(error).__name__}: {error})") from None


def describe_engine(
    model: Network, backend: str, precision: str, batch_sizes: Sequence[int], weights: str | os.PathLike[str] | None
) -> EngineDescription:
    """The description of `model`'s engine; `weights` is the file that `model` was loaded from."""
    info: WeightsInfo = getattr(model, "info", None) or describe(model)
    return EngineDescription(
        backend=backend,
        precision=precision,
        batch_sizes=tuple(sorted(set(batch_sizes))),
        model=info.model,
        num_classes=info.num_classes,
        anchor_scales=info.anchor_scales,
        preset=info.preset,
        inputs=dict(model.config.input_shapes()),
        class_names=info.class_names,
        mean=info.mean,
        box_rules=dataclasses.asdict(info.box_rules) if info.box_rules != PUBLISHED_RULES else None,
        weights_file=Path(weights).name if weights else None,
        weights_sha256=sha256_of(weights) if weights else None,
        versions={"torch": torch.__version__},
    )


def check_weights(description: EngineDescription, path: object, weights: str | os.PathLike[str] | None) -> None:
    """CheckpointError where the engine was built from other weights than `weights`."""
    if weights is None:
        return
    found = sha256_of(weights)
    if found != description.weights_sha256:
        raise CheckpointError(
            f"{path}: stale: built from {description.weights_file or 'unnamed weights'} with SHA-256 "
            f"{str(description.weights_sha256)[:12]}, but {weights} has {found[:12]}: build it again"
        )
