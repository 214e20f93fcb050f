"""Packed convolutions against plain ones."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from jpegdeep_torch.backends import get_backend, packing
from jpegdeep_torch.backends.base import example_inputs
from jpegdeep_torch.backends.packing import PackedConv2d, packed
from jpegdeep_torch.models import create_model
from jpegdeep_torch.models.layers import SameConv2d
from tests.backends.conftest import WIDTH, small_detector


@pytest.fixture
def any_size(monkeypatch):
    """Packs convolutions whatever their size."""
    monkeypatch.setattr(packing, "LEAST_WEIGHTS", 1)


def packed_layers(model: nn.Module) -> list[PackedConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, PackedConv2d)]


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_vgg16_dct", "ssd300_resnet50_lcrfa"])
def test_networks_give_the_same(name, any_size):
    model = small_detector(name)
    copied = packed(model)
    assert len(packed_layers(copied)) > 20 and not packed_layers(model)
    assert {p.data_ptr() for p in copied.parameters()} == {p.data_ptr() for p in model.parameters()}
    with torch.inference_mode():
        for count in (3, 1, 2):  # packed for the first, used for all
            inputs = example_inputs(model, count, seed=count)
            for found, expected in zip(copied(*inputs), model(*inputs)):
                assert expected.abs().max() > 1
                torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)  # it may be another kernel's rounding


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(24, 40, 3, stride=2, padding=1),
        nn.Conv2d(24, 40, 1, bias=False),
        nn.Conv2d(24, 48, 3, padding=6, dilation=6),
        nn.Conv2d(24, 48, (3, 5), padding=(1, 2), groups=4),
        SameConv2d(24, 40, 3),
    ],
)
def test_layers_give_the_same(layer, any_size):
    layer = layer.to(memory_format=torch.channels_last)
    both = packed(nn.Sequential(layer))
    assert len(packed_layers(both)) == 1
    x = torch.randn(2, 24, 19, 23, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for given in (x.to(memory_format=torch.channels_last), x):
            torch.testing.assert_close(both(given), layer(given), rtol=1e-5, atol=1e-5)
    gradient = both(x).sum()
    gradient.backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "layer",
    [
        SameConv2d(8, 8, 2),  # pads on its own
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3).bfloat16(),
        nn.ConvTranspose2d(8, 8, 2),
    ],
)
def test_other_layers_are_left_alone(layer, any_size):
    assert not packed_layers(packed(nn.Sequential(layer)))


def test_without_oneDNN_nothing_is_packed(monkeypatch, any_size):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = small_detector()
    assert packed(model) is model
    runner = get_backend("torch").build(model)
    inputs = example_inputs(model, 1)
    with torch.inference_mode():
        assert torch.equal(runner(*inputs)[0], model(*inputs)[0])


def test_the_copy_follows_its_model(any_size):
    model, other = small_detector(), create_model("ssd300_vgg16_dct", width=WIDTH, seed=5).eval()
    model = copy.deepcopy(model)
    copied, inputs = packed(model), example_inputs(model, 2)
    with torch.inference_mode():
        copied(*inputs)
    model.load_state_dict(other.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(copied(*inputs)[0], other(*inputs)[0], rtol=1e-5, atol=1e-4)


def test_a_packed_network_can_be_copied_and_keeps_to_autocast(any_size):
    model = small_detector()
    copied, inputs = packed(model), example_inputs(model, 2)
    with torch.inference_mode():
        expected = copied(*inputs)[0]
        assert torch.equal(copy.deepcopy(copied)(*inputs)[0], expected)
        assert torch.equal(pickle.loads(pickle.dumps(copied))(*inputs)[0], expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(copied(*inputs)[0], model(*inputs)[0])


def test_only_large_weights_are_packed():
    """Where all are small, the network itself runs: packing costs it more than it saves."""
    narrow = create_model("ssd300_resnet50_lcrfa", width=0.125, seed=0).eval()
    assert packed(narrow) is narrow
    small, large = nn.Conv2d(64, 64, 3), nn.Conv2d(512, 1024, 1)
    model = packed(nn.Sequential(small, nn.Sequential(large)))
    assert type(model[0]) is nn.Conv2d and [layer.conv.weight for layer in packed_layers(model)] == [large.weight]
