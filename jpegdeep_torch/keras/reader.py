"""Reading Keras's HDF5 files as data: names, shapes and values; nothing in them is executed.

A file is walked rather than taken at its attributes' word: layer and weight lists come as bytes or as str, in one piece
or in chunks, and multi-GPU models nest their layers one group deeper; the paths of the datasets say the same in all.
The attributes are then held against what was found.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..errors import CheckpointError

_MOST_OBJECTS = 20_000  # a ResNet-50 detector has about 1,000
_DEEPEST = 8


@dataclass(frozen=True)
class Weight:
    """One dataset: where it lies, and its shape and dtype as the file states them."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Of the values as float32."""
        return math.prod(self.shape) * 4


@dataclass
class KerasFile:
    """An open checkpoint: `layers[layer][weight]`, weights called kernel, bias, gamma, beta, moving_mean, ..."""

    path: Path
    file: h5py.File
    layers: dict[str, dict[str, Weight]]
    problems: list[str]  # what is wrong with the file whatever network it holds
    config: dict | None = None  # `model_config`, as JSON
    keras_version: str = "unknown"
    whole_model: bool = False  # made by model.save, not by save_weights

    @property
    def origin(self) -> str:
        """'Keras 2.2.4, whole model'."""
        return f"Keras {self.keras_version}, {'whole model' if self.whole_model else 'weights only'}"

    def read(self, weight: Weight) -> np.ndarray:
        """The values as float32; CheckpointError where they cannot be read."""
        try:
            return np.asarray(self.file[weight.path][...], dtype=np.float32)
        except Exception as error:  # h5py raises what HDF5 happens to hit: OSError, RuntimeError, ValueError, ...
            raise CheckpointError(f"{self.path}: {weight.path} cannot be read ({_short(error)})") from None


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}".rstrip(": ")


@contextmanager
def open_keras(path: str | os.PathLike[str]) -> Iterator[KerasFile]:
    """The checkpoint at `path`, its names and shapes read; CheckpointError where it is none.

    Optimizer state is never looked at.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}, expected a Keras .h5 file")
    try:
        is_hdf5 = h5py.is_hdf5(path)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be opened ({_short(error)})") from None
    if not is_hdf5:
        with open(path, "rb") as plain:
            start = plain.read(8)
        raise CheckpointError(f"{path}: not an HDF5 file (it starts with {start!r}), expected a Keras .h5 file")
    file = None
    try:
        file = h5py.File(path, "r")
        keras_file = _survey(path, file)
    except CheckpointError:
        raise
    except Exception as error:
        if file is not None:
            file.close()
        raise CheckpointError(f"{path}: damaged or truncated HDF5 file ({_short(error)})") from None
    try:
        yield keras_file
    finally:
        file.close()


def _survey(path: Path, file: h5py.File) -> KerasFile:
    whole = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
    root = file["model_weights"] if whole else file
    problems: list[str] = []
    if not isinstance(root, h5py.Group):
        raise CheckpointError(f"{path}: model_weights is a dataset, expected a group of layers")
    weights: list[tuple[tuple[str, ...], Weight]] = []
    for parts, dataset in _walk(root, (), problems, [0]):
        weights.append((parts, Weight(dataset.name, tuple(dataset.shape or ()), dataset.dtype)))
    layers = _by_layer(weights, problems)
    config = None
    if whole or "model_config" in file.attrs:
        config = _json_attribute(file, "model_config", problems)
    _check_listed(root, {"/".join(parts) for parts, _ in weights}, problems)
    version = root.attrs.get("keras_version", file.attrs.get("keras_version", b"unknown"))
    return KerasFile(path, file, layers, problems, config, _text(version), whole)


def _walk(group: h5py.Group, parts: tuple[str, ...], problems: list[str], seen: list[int]) -> Iterator:
    """(path as names, dataset) of all datasets below `group`; links out of the file are problems, not followed."""
    if len(parts) >= _DEEPEST:
        problems.append(f"{group.name}: groups nested more than {_DEEPEST} deep")
        return
    for name in group:
        seen[0] += 1
        if seen[0] > _MOST_OBJECTS:
            raise CheckpointError(
                f"{group.file.filename}: more than {_MOST_OBJECTS} objects, no Keras model has so many"
            )
        link = group.get(name, getlink=True)
        where = "/".join((*parts, name))
        if isinstance(link, h5py.ExternalLink):
            problems.append(f"{where}: an external link to {link.filename!r}, expected the data itself")
            continue
        if isinstance(link, h5py.SoftLink):
            problems.append(f"{where}: a soft link to {link.path!r}, expected the data itself")
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            if not (not parts and name == "optimizer_weights"):
                yield from _walk(item, (*parts, name), problems, seen)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                problems.append(f"{where}: its values lie in another file, expected the data itself")
            elif item.dtype.kind != "f":
                problems.append(f"{where}: dtype {item.dtype}, expected floating point")
            else:
                yield (*parts, name), item


def _by_layer(weights: list[tuple[tuple[str, ...], Weight]], problems: list[str]) -> dict[str, dict[str, Weight]]:
    """Layer names are the top groups; where a top group holds several layers (a nested model), the innermost ones."""
    inner: dict[str, set[str]] = {}
    for parts, _ in weights:
        inner.setdefault(parts[0], set()).add(parts[-2] if len(parts) > 1 else parts[0])
    layers: dict[str, dict[str, Weight]] = {}
    for parts, weight in weights:
        layer = parts[0] if len(inner[parts[0]]) == 1 else parts[-2]
        kind = parts[-1].rpartition(":")[0] or parts[-1]
        if kind.endswith("_gamma"):  # the L2 normalisation names its weight after itself
            kind = "gamma"
        if kind in layers.setdefault(layer, {}):
            problems.append(f"{'/'.join(parts)}: a second {kind} of layer {layer}")
        layers[layer][kind] = weight
    return layers


def _text(value: object) -> str:
    """h5py gives strings as bytes or as str, by version and by how they were written."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _string_list(group: h5py.Group, name: str, problems: list[str]) -> list[str]:
    """A list attribute; Keras splits what exceeds HDF5's 64 KiB into name0, name1, ..."""
    chunks = [name] if name in group.attrs else sorted(
        (key for key in group.attrs if re.fullmatch(rf"{name}\d+", key)), key=lambda key: int(key[len(name):])
    )  # fmt: skip
    values: list[str] = []
    for chunk in chunks:
        try:
            values += [_text(value) for value in np.ravel(group.attrs[chunk])]
        except Exception as error:
            problems.append(f"{group.name}: attribute {chunk} cannot be read ({_short(error)})")
    return values


def _check_listed(root: h5py.Group, held: set[str], problems: list[str]) -> None:
    """Every layer and weight that the attributes promise must be there."""
    for layer in _string_list(root, "layer_names", problems):
        if not isinstance(root.get(layer, getlink=True), h5py.HardLink):
            problems.append(f"{layer}: listed in layer_names but not in the file")
            continue
        group = root[layer]
        if not isinstance(group, h5py.Group):
            problems.append(f"{layer}: a dataset, expected a group of weights")
            continue
        for name in _string_list(group, "weight_names", problems):
            if f"{layer}/{name}" not in held:
                problems.append(f"{layer}/{name}: listed in weight_names but not in the file")


def _json_attribute(file: h5py.File, name: str, problems: list[str]) -> dict | None:
    if name not in file.attrs:
        return None
    try:
        value = json.loads(_text(file.attrs[name]))
    except Exception as error:
        problems.append(f"attribute {name} is not JSON ({_short(error)})")
        return None
    if not isinstance(value, dict):
        problems.append(f"attribute {name} is a {type(value).__name__}, expected a JSON object")
        return None
    return value
