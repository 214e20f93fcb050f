"""Keras-format .h5 files, written by hand with h5py in all the dialects that users' files have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from tests.keras.samples import model_config
from tests.keras.tables import Network


@dataclass(frozen=True)
class Dialect:
    """How a file says the same thing: see the fields."""

    version: str = "2.2.4"
    text: str = "bytes"  # or 'str': attributes as h5py 3 and tf.keras write them
    whole: bool = False  # model.save: weights under model_weights, a model_config, an optimizer's state
    nested: str | None = None  # multi-GPU: all layers in one group of this name
    chunks: int = 1  # attributes split over this many pieces
    renamed: tuple[tuple[str, str], ...] = ()  # layers under other names


def weights_of(net: Network, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Seeded values for every weight: {layer: {weight: value}}."""
    random = np.random.RandomState(seed)
    values: dict[str, dict[str, np.ndarray]] = {}
    for layer in net.layers:
        for name, shape in layer.weights:
            value = random.normal(0, 0.1, shape) if name != "moving_variance" else random.uniform(0.5, 2, shape)
            values.setdefault(layer.name, {})[name] = value.astype(np.float32)
    return values


def _strings(names: list[str], text: str) -> np.ndarray | list[str]:
    return (
        np.array([name.encode() for name in names]) if text == "bytes" else np.array(names, dtype=h5py.string_dtype())
    )


def _attribute(group: h5py.Group, name: str, values: list[str], dialect: Dialect) -> None:
    if dialect.chunks == 1 or len(values) < dialect.chunks:
        group.attrs[name] = _strings(values, dialect.text) if values else np.array([])
        return
    for i, part in enumerate(np.array_split(np.array(values, dtype=object), dialect.chunks)):
        group.attrs[f"{name}{i}"] = _strings(list(part), dialect.text)


def write(path: Path, net: Network, dialect: Dialect = Dialect(), seed: int = 0, skip: tuple[str, ...] = (),
          values: dict | None = None) -> dict:  # fmt: skip
    """Writes `net` with these or with seeded weights, without the layers in `skip`; returns the weights under their own
    names."""
    renamed = dict(dialect.renamed)
    values = {layer: parts for layer, parts in (values or weights_of(net, seed)).items() if layer not in skip}
    as_text = (lambda s: s.encode()) if dialect.text == "bytes" else str
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if dialect.whole else file
        if dialect.whole:
            config = model_config(net)
            file.attrs["model_config"] = as_text(json.dumps(config))
            file.attrs["keras_version"] = as_text(dialect.version)
            state = file.create_group("optimizer_weights/SGD")
            state["momentum:0"] = np.zeros((64, 64), np.float32)
        root.attrs["keras_version"], root.attrs["backend"] = as_text(dialect.version), as_text("tensorflow")
        names = [renamed.get(layer.name, layer.name) for layer in net.layers if layer.name not in skip]
        if dialect.nested:
            _attribute(root, "layer_names", ["input_1", dialect.nested], dialect)
            root.create_group("input_1").attrs["weight_names"] = np.array([])
            home, listed = root.create_group(dialect.nested), []
        else:
            _attribute(root, "layer_names", names, dialect)
        for layer, name in zip((x for x in net.layers if x.name not in skip), names):
            paths = [f"{name}/{kind.replace(layer.name, name)}:0" for kind in values.get(layer.name, {})]
            if dialect.nested:
                listed += paths
                group = home
            else:
                group = root.create_group(name)
                _attribute(group, "weight_names", paths, dialect)
            for where, value in zip(paths, values.get(layer.name, {}).values()):
                group[where] = value
        if dialect.nested:
            _attribute(home, "weight_names", listed, dialect)
    return values


def torch_layout(value: np.ndarray, dense_to: tuple[int, int] | None = None) -> np.ndarray:
    """Keras's (rows, columns, in, out) -> PyTorch's (out, in, rows, columns); a dense kernel -> (out, in)."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
