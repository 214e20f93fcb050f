"""Reading Keras's HDF5 files as data: names, shapes and values; nothing in them is executed.

A file is walked rather than taken at its attributes' word: layer and weight lists come as bytes or as str, in one piece
or in chunks, and multi-GPU models nest their layers one group deeper; the paths of the datasets say the same in all.
The attributes are then held against what was found.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import CheckpointError
from ..utils.messages import shown
from .archive import is_weights_h5, named, other_kind, unpacked
from .heaps import endless_heap

# Bounds on what a file may make us read, far above what any of these networks has.
_MOST_OBJECTS = 20_000  # a ResNet-50 detector has about 1,000
_DEEPEST = 8
_MOST_ATTRIBUTE_BYTES = 16 << 20  # a model_config has some 100 KB
_MOST_ATTRIBUTES = 1000  # of one group
_LARGE_BYTES = 16 << 20  # values that a file must really hold: packing makes weights little smaller
_MOST_PACKED = 64

# Keras 1 put the layer's name before a weight's and called some weights otherwise; its `running_std` holds a variance.
_KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
_PREFIXED = re.compile(r".+_(W|b|gamma|beta|running_mean|running_std)(_\d+)?")


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
    layer_names: tuple[str, ...] = ()  # as the file lists them: layers without weights too
    keras_1_names: bool = False  # of the weights

    @property
    def origin(self) -> str:
        """'Keras 2.2.4, whole model'."""
        return f"Keras {shown(self.keras_version, 40)}, {'whole model' if self.whole_model else 'weights only'}"

    def read(self, weight: Weight) -> np.ndarray:
        """The values as float32; CheckpointError where they cannot be read."""
        try:
            dataset = self.file[weight.path]
            stored = dataset.id.get_storage_size()
            if weight.nbytes > max(_LARGE_BYTES, stored * _MOST_PACKED):
                raise CheckpointError(
                    f"{shown(weight.path)}: {weight.nbytes:,} bytes of weights, of which the file holds {stored:,}"
                )
            return np.asarray(dataset[...], dtype=np.float32)
        except CheckpointError:
            raise
        except Exception as error:  # h5py raises what HDF5 happens to hit: OSError, RuntimeError, ValueError, ...
            raise CheckpointError(f"{self.path}: {shown(weight.path)} cannot be read ({_short(error)})") from None


def _short(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": "))


@contextmanager
def open_keras(path: str | os.PathLike[str]) -> Iterator[KerasFile]:
    """The checkpoint at `path`, its names and shapes read; CheckpointError where it is none.

    Optimizer state is never looked at.
    """
    path = Path(path)
    if kind := other_kind(path):
        raise CheckpointError(f"{path}: {kind}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}, expected a Keras .h5 file")
    with open(path, "rb") as start:
        archive = start.read(4) == b"PK\x03\x04" and path.suffix == ".keras"
    if archive:
        with unpacked(path) as (weights, version, config), _opened(weights, path) as file:
            yield dataclasses.replace(file, keras_version=version, config=config, whole_model=True)
        return
    with _opened(path, path) as file:
        yield file


@contextmanager
def _opened(held: Path, path: Path) -> Iterator[KerasFile]:
    """The HDF5 file `held`, which messages call `path`."""
    try:
        is_hdf5 = h5py.is_hdf5(held)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be opened ({_short(error)})") from None
    if not is_hdf5:
        with open(held, "rb") as other:
            start = other.read(8)
        raise CheckpointError(f"{path}: not an HDF5 file (it starts with {start!r}), expected a Keras .h5 file")
    if (place := endless_heap(held)) is not None:
        raise CheckpointError(f"{path}: damaged HDF5 file (the heap of texts at byte {place} has no end)")
    file = None
    try:
        file = h5py.File(held, "r")
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
    if is_weights_h5(file):
        layers = named(list(_walk(file, (), problems, set())), file, problems)
        held = {
            layer: {k: Weight(d.name, tuple(d.shape or ()), d.dtype) for k, d in parts.items()}
            for layer, parts in layers.items()
        }
        return KerasFile(path, file, held, problems, keras_version="3")
    weights: list[tuple[tuple[str, ...], Weight]] = []
    for parts, dataset in _walk(root, (), problems, set()):
        weights.append((parts, Weight(dataset.name, tuple(dataset.shape or ()), dataset.dtype)))
    layers = _by_layer(weights, problems)
    prefixed = (_PREFIXED.fullmatch(_kind(parts)) for parts, _ in weights)
    keras_1 = any(match[1] in _KERAS_1 for match in prefixed if match)
    attributes = _Attributes(file)
    config = attributes.json("model_config", problems)
    names = _check_listed(attributes, root, {"/".join(parts) for parts, _ in weights}, problems)
    versions = attributes.texts(root if "keras_version" in root.attrs else file, "keras_version", problems)
    version = versions[0] if versions else "unknown"
    return KerasFile(path, file, layers, problems, config, version, whole, names, keras_1)


def _walk(group: h5py.Group, parts: tuple[str, ...], problems: list[str], seen: set) -> Iterator:
    """(path as names, dataset) of all datasets below `group`; links out of the file are problems, not followed.

    seen: the paths walked, and the addresses of their groups.
    """
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        problems.append(f"{shown('/'.join(parts))}: a second link to a group, expected the data itself")
        return
    seen.add(address)
    if len(parts) >= _DEEPEST:
        problems.append(f"{shown(group.name)}: groups nested more than {_DEEPEST} deep")
        return
    for name in group:
        seen.add((*parts, name))
        if len(seen) > 2 * _MOST_OBJECTS:
            raise CheckpointError(
                f"{group.file.filename}: more than {_MOST_OBJECTS} objects, no Keras model has so many"
            )
        link = group.get(name, getlink=True)
        where = shown("/".join((*parts, name)))
        if isinstance(link, h5py.ExternalLink):
            problems.append(f"{where}: an external link to {shown(link.filename)!r}, expected the data itself")
            continue
        if isinstance(link, h5py.SoftLink):
            problems.append(f"{where}: a soft link to {shown(link.path)!r}, expected the data itself")
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            if not (not parts and name in ("optimizer_weights", "optimizer")):
                yield from _walk(item, (*parts, name), problems, seen)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                problems.append(f"{where}: its values lie in another file, expected the data itself")
            elif item.dtype.kind != "f":
                problems.append(f"{where}: dtype {shown(item.dtype)}, expected floating point")
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
        kind = _kind(parts)
        if prefixed := _PREFIXED.fullmatch(kind):  # Keras 1's, and the L2 normalisation's, which is named after itself
            kind = _KERAS_1.get(prefixed[1], prefixed[1])
        if kind in layers.setdefault(layer, {}):
            problems.append(f"{shown('/'.join(parts))}: a second {shown(kind)} of layer {shown(layer)}")
        layers[layer][kind] = weight
    return layers


def _kind(parts: tuple[str, ...]) -> str:
    """'kernel' of the dataset 'fc6/fc6/kernel:0'."""
    return parts[-1].rpartition(":")[0] or parts[-1]


def _text(value: object) -> str:
    """h5py gives strings as bytes or as str, by version and by how they were written."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Attributes:
    """Reads attributes, but none that is larger than any Keras writes."""

    def __init__(self, file: h5py.File):
        self.file = file

    @functools.cached_property
    def _beside_values(self) -> int:
        """Bytes of the file that are no dataset's values; the optimizer's are not counted either."""
        seen: set[int] = set()
        beside, groups = os.path.getsize(self.file.filename), [self.file]
        while groups and len(seen) < 4 * _MOST_OBJECTS:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset) and not item.external:
                    beside -= item.id.get_storage_size()
        return max(0, beside)

    def value(self, group: h5py.Group, name: str) -> Any:
        """Raises ValueError where it is too large, and whatever h5py raises."""
        entry = group.attrs.get_id(name)
        count = math.prod(entry.shape or ())
        stored = count * entry.dtype.itemsize
        if entry.dtype.kind == "O":  # text of any length lies elsewhere in the file
            stored += self._beside_values
        if count > _MOST_OBJECTS or stored > _MOST_ATTRIBUTE_BYTES:
            raise ValueError(f"{count:,} entries, up to {stored:,} bytes: no Keras model has so many")
        return group.attrs[name]

    def texts(self, group: h5py.Group, name: str, problems: list[str]) -> list[str]:
        """A list attribute; Keras splits what exceeds HDF5's 64 KiB into name0, name1, ..."""
        if len(group.attrs) > _MOST_ATTRIBUTES:
            problems.append(f"{shown(group.name)}: {len(group.attrs):,} attributes, no Keras model has so many")
            return []
        chunks = [name] if name in group.attrs else sorted(
            (key for key in group.attrs if re.fullmatch(rf"{name}\d{{1,9}}", key)), key=lambda key: int(key[len(name):])
        )  # fmt: skip
        values: list[str] = []
        for chunk in chunks:
            try:
                values += [_text(value) for value in np.ravel(self.value(group, chunk))]
            except Exception as error:
                problems.append(f"{shown(group.name)}: attribute {chunk} cannot be read ({_short(error)})")
        return values

    def json(self, name: str, problems: list[str]) -> dict | None:
        """A JSON object among the file's own attributes."""
        if name not in self.file.attrs:
            return None
        try:
            value = json.loads(_text(self.value(self.file, name)))
        except Exception as error:
            problems.append(f"attribute {name} is not JSON ({_short(error)})")
            return None
        if not isinstance(value, dict):
            problems.append(f"attribute {name} is a {type(value).__name__}, expected a JSON object")
            return None
        return value


def _check_listed(attributes: _Attributes, root: h5py.Group, held: set[str], problems: list[str]) -> tuple[str, ...]:
    """Every layer and weight that the attributes promise must be there -> the layers' names."""
    names = attributes.texts(root, "layer_names", problems)
    if len(names) > _MOST_OBJECTS:
        problems.append(f"layer_names: {len(names):,} layers, no Keras model has so many")
        return ()
    for layer in names:
        if not isinstance(root.get(layer, getlink=True), h5py.HardLink):
            problems.append(f"{shown(layer)}: listed in layer_names but not in the file")
            continue
        group = root[layer]
        if not isinstance(group, h5py.Group):
            problems.append(f"{shown(layer)}: a dataset, expected a group of weights")
            continue
        for name in attributes.texts(group, "weight_names", problems):
            if f"{layer}/{name}" not in held:
                problems.append(f"{shown(layer)}/{shown(name)}: listed in weight_names but not in the file")
    return tuple(names)
