"""MobileNetV2 against torchvision's, and the SSD over it."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from jpegdeep_torch.models import create_model


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's module with seeded weights and statistics, whose logits are of the size of trained ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.mobilenet_v2(num_classes=50)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.5)
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        nn.init.normal_(model.classifier[1].weight, std=0.3)
    return model.eval()


@pytest.mark.parametrize("size", [224, 300])
def test_logits_are_torchvisions(theirs, size):
    model = create_model("mobilenet_v2", 50, seed=1).eval()
    model.load_state_dict(theirs.state_dict())  # strict: the same names and shapes
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = theirs(image)
        assert expected.std() > 0.5
        torch.testing.assert_close(model(image), expected, rtol=0, atol=1e-4)


def test_the_detectors_maps_are_torchvisions(theirs):
    """Of stride 8 and 16 behind the expansions of blocks 7 and 14, of stride 32 behind block 17."""
    detector = create_model("ssd300_mobilenet_v2", 3, seed=1).eval()
    result = detector.load_state_dict(theirs.state_dict(), strict=False)
    assert all(key.startswith(("features.18.", "classifier.")) for key in result.unexpected_keys)
    assert not any(key.startswith("features.") for key in result.missing_keys)
    image = torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        maps = detector.feature_maps(image)
        assert [tuple(x.shape[1:]) for x in maps] == [
            (192, 38, 38), (576, 19, 19), (320, 10, 10), (256, 5, 5), (256, 3, 3), (128, 1, 1),
        ]  # fmt: skip
        for x, block in zip(maps, (7, 14)):
            before = theirs.features[:block](image)
            torch.testing.assert_close(x, theirs.features[block].conv[0](before), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(maps[2], theirs.features[:18](image), rtol=1e-4, atol=1e-4)


def test_heads_are_depthwise_separable():
    detector = create_model("ssd300_mobilenet_v2", 3, seed=1).eval()
    head = detector.class_heads[0]
    assert head.depthwise[0].groups == head.depthwise[0].in_channels == 192
    assert head.weight.shape == (4 * 4, 192, 1, 1)
    assert sum(p.numel() for p in detector.parameters()) < 2.2e6
