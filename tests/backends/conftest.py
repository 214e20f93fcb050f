"""Small detectors with outputs of a trained one's size, for all backend tests."""

from __future__ import annotations

import functools

import pytest
from torch import Tensor, nn

from eval.benchmark.seeded import seeded_detector
from jpegdeep_torch.backends.base import example_inputs
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import load_model, save_weights

WIDTH = 0.125


@functools.cache
def small_detector(name: str = "ssd300_vgg16_dct") -> nn.Module:
    """With its heads scaled: untrained logits of several hundred would turn rounding into other classes."""
    inputs = example_inputs(create_model(name, width=WIDTH, seed=0), 2)
    return seeded_detector(name, inputs, width=WIDTH)


def batches(model: nn.Module, count: int = 3) -> list[tuple[Tensor, ...]]:
    """`count` different single images, for calibration."""
    return [example_inputs(model, 1, seed=seed) for seed in range(count)]


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory):
    """(file, network loaded from it)."""
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    save_weights(small_detector(), path)
    return path, load_model(path)
