"""Cutting any network in two."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.twins.cutting import cut_network


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(torchvision.models, name)().eval()


@pytest.mark.parametrize(
    ("name", "layer", "deeper", "channels", "stride", "rectified"),
    [
        ("resnet18", "layer2", "layer3", 128, 8, True),
        ("resnet18", "layer2.0", "layer3.1", 128, 8, True),
        ("resnet18", "layer1", "layer3", 64, 4, True),
        ("resnet18", "layer3", "layer4", 256, 16, True),
        ("mobilenet_v2", "features.6", "features.13", 32, 8, False),
        ("efficientnet_b0", "features.3", "features.5", 40, 8, False),
    ],
)
def test_both_parts_together_are_the_network(name, layer, deeper, channels, stride, rectified):
    network = seeded(name)
    cut = cut_network(network, layer, size=64)
    assert (cut.deeper, cut.channels, cut.stride, cut.rectified) == (deeper, channels, stride, rectified)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = cut.early(image)
        assert features.shape == (2, channels, 64 // stride, 64 // stride)
        assert torch.equal(cut.late(features)[1], network(image))
        early, late = cut.fused()
        torch.testing.assert_close(late(early(image))[1], network(image), rtol=1e-3, atol=1e-3)
    own = network.state_dict()
    assert cut.late.state_dict() and all(torch.equal(value, own[key]) for key, value in cut.late.state_dict().items())


def test_our_own_networks():
    network = create_model("resnet50", width=0.125, seed=0).eval()
    cut = cut_network(network, "trunk.early.3d", size=64)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(cut.late(cut.early(image))[1], network(image))
    assert cut.stride == 8 and cut.deeper == "trunk.late.4f"


class Skipping(nn.Module):
    """Reads its first layer again at the end."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.first(x)
        return self.second(x) + x


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_cut_is_told_in_one_line():
    network = seeded("resnet18")
    with pytest.raises(ModelError, match=r"no layer 'layer9' to cut at: expected one of .*layer2"):
        cut_network(network, "layer9", size=64)
    with pytest.raises(
        ModelError, match=r"layer 'layer4' gives \(1, 512, 2, 2\) for an image of 64 px, expected .*4, 8"
    ):
        cut_network(network, "layer4", size=64)
    with pytest.raises(ModelError, match="no layer 'layer1' after 'layer2'"):
        cut_network(network, "layer2", deeper="layer1", size=64)
    with pytest.raises(ModelError, match="read layers before it too"):
        cut_network(Skipping(), "second", size=64)
    with pytest.raises(ModelError, match=r"Branching cannot be traced by torch.fx"):
        cut_network(Branching(), "x", size=64)
