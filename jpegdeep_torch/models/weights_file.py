"""The file format of weights: one safetensors file, which says of itself all that is needed to build its network.

Used through `jpegdeep_torch.weights`, which adds what needs a network to be built.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..presets import COEFFICIENTS, PRESETS, Preset, current_name, get_preset
from ..utils.files import written_whole
from ..utils.messages import listed
from .config import ANCHOR_CLIPS, ANCHOR_STEPS, PUBLISHED_RULES, BoxRules

FORMAT_VERSION = "1"
# What makes a weights file of a file that ends so.
_CONVERTERS = {".h5": "convert_keras", ".hdf5": "convert_keras", ".keras": "convert_keras", ".pth": "convert_torch"}
CARD_FIELDS = {  # of a model card (arXiv 1810.03993), in its order
    "task": "what the weights find, and in what",
    "data": "what they were trained on",
    "credit": "who is named where they are used",
    "licence": "of data and weights",
    "figures": "how good they are, and how that was measured",
    "limits": "what they are not for",
}


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says of itself.

    coefficients: 'native' or 'reencode', where the file says which of them the weights were trained for.
    mean: in place of the preset's, in the order of its channels.
    card: of trained weights: what to know before one uses them, by CARD_FIELDS.
    """

    model: str
    num_classes: int
    anchor_scales: tuple[float, ...] | None
    preset: str
    class_names: tuple[str, ...] | None = None
    width: float = 1.0
    source_file: str | None = None
    source_sha256: str | None = None
    coefficients: str | None = None
    mean: tuple[float, ...] | None = None
    box_rules: BoxRules = PUBLISHED_RULES
    card: Mapping[str, str] | None = None

    def preparation(self, coefficients: str | None = None) -> Preset:
        """How images become inputs of these weights; `coefficients` takes the place of their own."""
        preset = get_preset(self.preset, coefficients or self.coefficients)
        return preset if self.mean is None else dataclasses.replace(preset, mean=self.mean)

    def to_metadata(self) -> dict[str, str]:
        """As safetensors stores it: strings only."""
        values = {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "num_classes": str(self.num_classes),
            "anchor_scales": json.dumps(self.anchor_scales) if self.anchor_scales else None,
            "preset": self.preset,
            "class_names": json.dumps(self.class_names, ensure_ascii=False) if self.class_names else None,
            "width": str(self.width),
            "source_file": self.source_file,
            "source_sha256": self.source_sha256,
            "coefficients": self.coefficients,
            "mean": json.dumps(self.mean) if self.mean else None,
            "box_rules": json.dumps(dataclasses.asdict(self.box_rules)) if self.box_rules != PUBLISHED_RULES else None,
            "card": json.dumps(dict(self.card), ensure_ascii=False) if self.card else None,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: object) -> WeightsInfo:
        """CheckpointError where something is missing or unreadable."""
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: not a weights file of jpegdeep_torch (format_version is {version!r}, expected "
                f"{FORMAT_VERSION!r}); Keras files are for convert_keras, .pth files for convert_torch"
            )
        try:
            scales, names = metadata.get("anchor_scales"), metadata.get("class_names")
            mean, card = metadata.get("mean"), metadata.get("card")
            info = cls(
                model=metadata["model"],
                num_classes=int(metadata["num_classes"]),
                anchor_scales=tuple(float(s) for s in json.loads(scales)) if scales else None,
                preset=metadata["preset"],
                class_names=tuple(str(n) for n in json.loads(names)) if names else None,
                width=float(metadata.get("width", 1.0)),
                source_file=metadata.get("source_file"),
                source_sha256=metadata.get("source_sha256"),
                coefficients=current_name(metadata.get("coefficients", metadata.get("dct"))),
                mean=tuple(float(m) for m in json.loads(mean)) if mean else None,
                box_rules=BoxRules(**json.loads(metadata.get("box_rules", "{}"))),
                card={str(k): str(v) for k, v in json.loads(card).items()} if card else None,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: its metadata cannot be read ({type(error).__name__}: {error})") from None
        if info.preset not in PRESETS:
            raise CheckpointError(f"{path}: unknown preset {info.preset!r}, expected one of {', '.join(PRESETS)}")
        if info.coefficients not in (None, *COEFFICIENTS):
            raise CheckpointError(
                f"{path}: unknown coefficients {info.coefficients!r}, expected {' or '.join(map(repr, COEFFICIENTS))}"
            )
        if info.mean is not None and (len(info.mean) != 3 or not all(map(math.isfinite, info.mean))):
            raise CheckpointError(f"{path}: the mean is {info.mean}, expected three numbers")
        if info.box_rules.steps not in ANCHOR_STEPS or info.box_rules.clip not in ANCHOR_CLIPS:
            raise CheckpointError(f"{path}: unknown rules for anchors, {info.box_rules}")
        if info.class_names is not None and len(info.class_names) != info.num_classes:
            raise CheckpointError(f"{path}: {len(info.class_names)} class names for {info.num_classes} classes")
        return info


def save_tensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str], info: WeightsInfo) -> None:
    """Writes contiguous tensors as `write_safetensors` does."""
    write_safetensors(tensors, path, info.to_metadata())


def write_safetensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: dict[str, str]) -> None:
    """Writes contiguous tensors; the file appears only when it is complete.

    The same tensors and metadata give the same bytes each time.
    """
    with written_whole(path) as temporary:
        save_file(dict(tensors), temporary, metadata=metadata)
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Brings a file's metadata, which safetensors writes in an order that changes from call to call, into one order.

    A file begins with the size of its header, 8 bytes little-endian, and the header as JSON, which blanks may fill up.
    """
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))


def is_weight(key: str) -> bool:
    """Whether a state dict's entry is stored: BatchNorm's step counters say nothing about the function."""
    return not key.endswith("num_batches_tracked")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[safe_open]:
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}, expected a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        function = _CONVERTERS.get(Path(path).suffix.lower())
        hint = f"; jpegdeep_torch.{function} makes one of it" if function else ""
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}){hint}") from None


def read_info(path: str | os.PathLike[str]) -> WeightsInfo:
    """What the file says of itself, without reading its weights."""
    with _opened(path) as file:
        return WeightsInfo.from_metadata(file.metadata() or {}, path)


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> WeightsInfo:
    """Copies the file's weights into `model`; CheckpointError lists every key and shape that does not fit."""
    with _opened(path) as file:
        info = WeightsInfo.from_metadata(file.metadata() or {}, path)
        state = {key: value for key, value in model.state_dict().items() if is_weight(key)}
        held = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not a mapping
        wrong = [f"missing: {key}" for key in sorted(set(state) - set(held))]
        wrong += [f"unexpected: {key}" for key in sorted(set(held) - set(state))]
        wrong += [
            f"{key}: shape {held[key]}, expected {tuple(state[key].shape)}"
            for key in sorted(set(state) & set(held))
            if held[key] != tuple(state[key].shape)
        ]
        if wrong:
            name = getattr(getattr(model, "config", None), "name", type(model).__name__)
            raise CheckpointError(f"{path}: does not fit {name} ({len(wrong)} differences): {listed(wrong)}")
        # A file may hold kernels in half precision (see `weights.save_half`).
        loaded = {key: file.get_tensor(key).to(value.dtype) for key, value in state.items()}
        # assign: a network on the meta device has no memory to copy into
        model.load_state_dict(loaded, strict=False, assign=any(v.is_meta for v in state.values()))
    return info
