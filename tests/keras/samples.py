"""The small Keras checkpoints of `tests/keras/data`: where they lie, and the inputs they were asked with."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from tests.keras.tables import Network

DATA = Path(__file__).parent / "data"
WIDTH = 1 / 32
SEED = 20060575
WHOLE = ("ssd300_vgg16_dct", "ssd300_vgg16_dct_y", "ssd300_resnet50_deconv_rfa", "resnet50_lcrfa")  # by model.save


def unpack(name: str, folder: Path) -> Path:
    """The small checkpoint of `name`, as Keras wrote it."""
    path = folder / f"{name}.h5"
    path.write_bytes(lzma.decompress((DATA / f"{name}.h5.xz").read_bytes()))
    return path


def rows_512() -> np.ndarray:
    """As `rows`, of SSD512's 24,564 anchors."""
    return np.concatenate((np.arange(0, 24564, 97), np.arange(24400, 24564, 3)))


def rows() -> np.ndarray:
    """The anchors whose outputs are kept: all levels, all box shapes."""
    return np.concatenate((np.arange(0, 8732, 29), np.arange(8542, 8732, 3)))


def inputs(name: str, size: int | None = None) -> list[np.ndarray]:
    """Seeded inputs, channels last, batch 1, float32: pixels of 0..255 minus 120 (ssd_keras: as they are), or
    whole-numbered coefficients that fall off with their frequency."""
    random = np.random.RandomState(SEED)
    detector = name.startswith("ssd")
    size = size or (512 if name == "ssd_keras_ssd512" else 300 if detector else 224)
    if "dct" not in name and "rfa" not in name:
        coarse = random.randint(0, 256, (1, size // 4, size // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
        fine = np.clip(coarse + random.randint(-20, 21, coarse.shape), 0, 255)
        return [(fine if name.startswith("ssd_keras") else fine - 120).astype(np.float32)]
    luma = -(-size // 16) * 2
    shapes = [(luma, 64)]
    if "deconv" in name:
        shapes += [(luma // 2, 64)] * 2
    elif not name.endswith("_y"):
        shapes += [(luma // 2, 128)]
    falling = 400 / (1 + np.arange(64)) ** 1.2
    return [
        np.round(random.laplace(0, 1, (1, side, side, c)) * np.tile(falling, c // 64)).astype(np.float32)
        for side, c in shapes
    ]


def model_config(net: Network) -> dict:
    """What Keras 2 stores as `model_config`."""
    layers = [
        {
            "class_name": layer.kind,
            "name": layer.name,
            "config": {"name": layer.name, **layer.settings},
            "inbound_nodes": [[[source, 0, 0, {}] for source in layer.inputs]] if layer.inputs else [],
        }
        for layer in net.layers
    ]
    ends = [[name, 0, 0] for name in net.outputs]
    starts = sorted([layer.name, 0, 0] for layer in net.layers if layer.kind == "InputLayer")
    return {
        "class_name": "Model",
        "config": {"name": "model_1", "layers": layers, "input_layers": starts, "output_layers": ends},
    }
