"""Weights to start from, in networks of any width."""

from __future__ import annotations

import pytest
import torch

from jpegdeep_torch.errors import ConfigError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.training.initialization import check_init, initialize
from jpegdeep_torch.weights import save_weights


def saved(path, name: str, width: float):
    model = create_model(name, 7, width=width, seed=1)
    save_weights(model, path)
    return model


# 120 channels for 32, and as the published ones, 4 for 1.
@pytest.mark.parametrize(("width", "kept"), [(0.03, (0, 3, 7, 11, 15)), (0.0625, (0, 4, 8, 12, 16))])
def test_dense_layers_are_taken_in_any_width(tmp_path, width, kept):
    classifier = saved(tmp_path / "c.safetensors", "vgg16", width)
    detector = create_model("ssd300_vgg16", 3, width=width, seed=2)
    said = initialize(detector, tmp_path / "c.safetensors")
    assert "trunk.fc6" not in said and "trunk.fc7" not in said
    for here, there in enumerate(kept):
        torch.testing.assert_close(detector.trunk.fc6.weight[here, 2, 1, 2], classifier.fc1.weight[there, 2, 3, 6])
        torch.testing.assert_close(detector.trunk.fc6.bias[here], classifier.fc1.bias[there])
        torch.testing.assert_close(
            detector.trunk.fc7.weight[here, 1, 0, 0], classifier.fc2.weight[there, kept[1], 0, 0]
        )


@pytest.mark.parametrize(
    ("source", "width", "fits"),
    [("vgg16", 0.03, True), ("vgg16_dct", 0.03, True), ("ssd300_vgg16", 0.03, True), ("resnet50", 0.03, False),
     ("vgg16", 0.0625, False)],
)  # fmt: skip
def test_what_is_checked_before_is_what_holds_then(tmp_path, source, width, fits):
    path = tmp_path / "c.safetensors"
    saved(path, source, width)
    outcomes = []
    for attempt in (
        lambda: check_init(path, "ssd300_vgg16_dct", 3, 0.03),
        lambda: initialize(create_model("ssd300_vgg16_dct", 3, width=0.03), path),
    ):
        try:
            attempt()
            outcomes.append("")
        except ConfigError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1] and (outcomes[0] == "") == fits
    assert fits or f"weights of {source}, none of which fit ssd300_vgg16_dct of width 0.03" in outcomes[0]
