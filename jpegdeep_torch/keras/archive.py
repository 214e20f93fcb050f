"""Keras 3's own formats: .keras archives and .weights.h5 files; and what other things people hold are called."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from ..errors import CheckpointError
from ..utils.messages import shown

_WEIGHTS, _CONFIG, _METADATA = "model.weights.h5", "config.json", "metadata.json"
_MOST_TEXT_BYTES = 16 << 20
_MOST_PACKED = 64  # times; weights hardly pack at all
_KINDS = {4: ("gamma", "beta", "moving_mean", "moving_variance"), 2: ("kernel", "bias")}


def other_kind(path: Path) -> str | None:
    """What `path` is, where it is a model but not a file that can be read, and the line that makes one."""
    legacy = f'tf_keras.models.load_model("{path}").save_weights("FILE.h5")'
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return f"a TensorFlow SavedModel folder: in Python, {legacy} (pip install tf_keras) makes a file to convert"
    index = path.with_name(f"{path.name}.index")
    if index.is_file() or path.suffix == ".index" or ".data-0" in path.name:
        return (
            "a TensorFlow checkpoint, which holds no layer names: build the network in Python, then "
            'model.load_weights("CHECKPOINT") and model.save_weights("FILE.weights.h5")'
        )
    return None


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[Path, str, dict[str, object]]]:
    """A .keras archive -> (its weights as a file that goes with the block, Keras's version, the configuration)."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / _WEIGHTS
        try:
            version, config = _extract(path, weights)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged archive ({type(error).__name__}: {shown(error)})") from None
        except zlib.error as error:
            raise CheckpointError(f"{path}: damaged archive ({shown(error)})") from None
        yield weights, version, config


def _extract(path: Path, weights: Path) -> tuple[str, dict[str, object]]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if _WEIGHTS not in members:
            raise CheckpointError(f"{path}: a zip archive without {_WEIGHTS}, expected a .keras or .h5 file")
        packed = members[_WEIGHTS]
        if packed.file_size > max(_MOST_TEXT_BYTES, packed.compress_size * _MOST_PACKED):
            raise CheckpointError(f"{path}: {_WEIGHTS} unpacks to {packed.file_size:,} bytes, which no weights do")
        with archive.open(packed) as source, open(weights, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        version = _json(archive, members.get(_METADATA), path).get("keras_version", "3")
        return str(version), _json(archive, members.get(_CONFIG), path)


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo | None, path: Path) -> dict[str, object]:
    if member is None:
        return {}
    if member.file_size > _MOST_TEXT_BYTES:
        raise CheckpointError(
            f"{path}: {member.filename} unpacks to {member.file_size:,} bytes, no Keras model has so many"
        )
    try:
        value = json.loads(archive.read(member))
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: {member.filename} holds no JSON object")
    return value


def is_weights_h5(file: h5py.File) -> bool:
    """Whether the file is Keras 3's .weights.h5: arrays under layers/*/vars."""
    return isinstance(file.get("layers", getlink=True), h5py.HardLink) and "layer_names" not in file.attrs


def named(
    weights: list[tuple[tuple[str, ...], h5py.Dataset]], file: h5py.File, problems: list[str]
) -> dict[str, dict[str, h5py.Dataset]]:
    """{layer: {kernel, bias, ...: dataset}} of a .weights.h5, whose arrays are numbered; the groups hold the names."""
    groups: dict[tuple[str, ...], dict[str, h5py.Dataset]] = {}
    for parts, dataset in weights:
        if len(parts) < 3 or parts[-2] != "vars":
            problems.append(f"{shown('/'.join(parts))}: not under a layer's vars")
            continue
        groups.setdefault(parts[:-1], {})[parts[-1]] = dataset
    layers: dict[str, dict[str, h5py.Dataset]] = {}
    for parts, arrays in groups.items():
        holder = file["/".join(parts)]
        name = holder.attrs.get("name") if len(holder.attrs) < 10 else None
        if not isinstance(name, str) or not name:
            problems.append(
                f"{shown('/'.join(parts))}: its layer's name is not in the file, as in Keras 3's first versions: "
                'load it there and call model.save("FILE.h5")'
            )
            continue
        first = arrays.get("0")
        kinds = _KINDS.get(
            len(arrays), ("gamma",) if first is not None and len(first.shape or ()) == 1 else ("kernel",)
        )
        if sorted(arrays) != [str(i) for i in range(len(kinds))] or name in layers:
            problems.append(f"{shown(name)}: arrays {', '.join(map(shown, sorted(arrays)[:8]))}, expected 0, 1, ...")
            continue
        layers[name] = {kind: arrays[str(i)] for i, kind in enumerate(kinds)}
    return layers
