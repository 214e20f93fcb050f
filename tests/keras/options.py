"""The options of ssd_keras's builder, each changed on its own, and the files that such networks are saved to."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tests.keras.samples import DATA, unpack
from tests.keras.tables import RATIOS, SCALES

BASE = {
    "subtract_mean": [123, 117, 104], "divide_by_stddev": None, "swap_channels": [2, 1, 0], "scales": list(SCALES),
    "ratios": {boxes: list(ratios) for boxes, ratios in RATIOS.items()}, "steps": True, "clip_boxes": False,
    "variances": [0.1, 0.1, 0.2, 0.2], "coords": "centroids", "normalize_coords": True,
}  # fmt: skip
# bubbliiiing/ssd-keras's networks: prepared pixels come in, anchors are cut at the image's borders.
BUBBLIIIING = {"bubbliiiing": True, "subtract_mean": None, "swap_channels": False, "steps": None}
OPTIONS = {
    "as published": {},
    "swap_channels off": {"swap_channels": False},
    "swap_channels in another order": {"swap_channels": [1, 2, 0]},
    "no mean": {"subtract_mean": None},
    "another mean": {"subtract_mean": [110.5, 127.5, 90]},
    "one mean": {"subtract_mean": 127.5},
    "divide_by_stddev": {"divide_by_stddev": [58.0, 57.0, 57.5]},
    "swap_channels off, divide_by_stddev": {"swap_channels": False, "divide_by_stddev": [64.0, 50.0, 80.0]},
    "clip_boxes": {"clip_boxes": True},
    "normalize_coords=False": {"normalize_coords": False},
    "normalize_coords=False, clip_boxes": {"normalize_coords": False, "clip_boxes": True},
    "scales": {"scales": [0.08, 0.16, 0.32, 0.48, 0.64, 0.8, 0.96]},
    "variances": {"variances": [0.1, 0.15, 0.2, 0.25]},
    "steps=None": {"steps": None},
    "coords corners": {"coords": "corners"},
    "coords minmax": {"coords": "minmax"},
    "aspect_ratios": {"ratios": {4: [1.0, 1.5, 0.5], 6: [1.0, 1.5, 0.5, 3.0, 1 / 3]}},
}


def stored(option: str) -> dict[str, np.ndarray]:
    """What Keras answered, and what it wrote of the network: see make_options.py."""
    with np.load(DATA / "ssd_keras_options.npz") as file:
        return {key.partition("/")[2]: file[key] for key in file if key.partition("/")[0] == option}


def option_file(option: str, folder: Path, whole: bool) -> Path:
    """A small file of `model.save` (whole) or of `save_weights`, as Keras writes it with this option."""
    kept = stored(option)
    return assembled("ssd_keras_ssd300", str(kept["config"]), list(map(str, kept["names"])), folder, whole)


def assembled(name: str, config: str, names: list[str], folder: Path, whole: bool) -> Path:
    """The weights of a small checkpoint in a file as Keras writes it, with this `model_config` and list of layers."""
    source = unpack(name, folder)
    path = folder / ("whole.h5" if whole else "weights.h5")
    with h5py.File(source) as weights, h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"], file.attrs["keras_version"] = config, "2.21.0"
        for name in names:
            if name in weights:
                weights.copy(name, root)
            else:
                root.create_group(name).attrs["weight_names"] = np.array([])
        root.attrs["layer_names"], root.attrs["keras_version"] = names, "2.21.0"
    source.unlink()
    return path
