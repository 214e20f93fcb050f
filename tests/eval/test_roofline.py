"""Multiply-adds by hand, and the figure made of them."""

from __future__ import annotations

import torch
from torch import nn

from eval.benchmark.candidates import BenchmarkCase, Convolution, make_timed_detector
from eval.benchmark.measure import measure
from eval.benchmark.networks import Network
from eval.benchmark.roofline import count_multiply_adds
from jpegdeep_torch.models import create_model
from jpegdeep_torch.presets import get_preset
from tests.backends.conftest import small_detector
from tests.jpeg_samples import jpeg


def weightless(name: str) -> nn.Module:
    with torch.device("meta"):
        return create_model(name)


def test_multiply_adds_of_vgg16():
    work = count_multiply_adds(weightless("vgg16"))
    # The published 15.5 G of VGG-16 at 224 px, its dense layers included.
    assert 15.4e9 < work.total < 15.6e9


def test_the_largest_convolution_of_the_dct_detector():
    work = count_multiply_adds(weightless("ssd300_vgg16_dct"))
    assert work.largest == 512 * 512 * 9 * 38 * 38
    assert work.input_shape == (512, 38, 38)
    assert 4.3 < work.total / work.largest < 4.5


def test_transposed_convolutions_count():
    model = weightless("ssd300_vgg16_dct_deconv")
    plain = sum(m.weight.numel() for m in model.trunk.base.deconv.children()) * 19 * 19
    for name in ("deconv_cb", "deconv_cr"):
        setattr(model.trunk.base.deconv, name, _Enlarge())
    assert count_multiply_adds(weightless("ssd300_vgg16_dct_deconv")).total - count_multiply_adds(model).total == plain


def test_the_figure_is_made_of_its_parts():
    """What eval.throughput prints: the convolution on the network's own backend, timed in turn with it."""
    network = Network(small_detector(), get_preset("voc"), [jpeg()], seeded=True)
    detector = make_timed_detector(network, "torch", "cpu", "float32", (1,))
    convolution, case = Convolution(detector), BenchmarkCase("model", 1, False)
    result = measure([detector, convolution], case, seconds=0.1)
    assert result.ms_per_image(detector.label) > result.ms_per_image(convolution.label) > 0
    samples = result.samples[detector.label], result.samples[convolution.label]
    assert all(share > 0 for share in convolution.efficiency(*samples))
    assert isinstance(network.model.get_submodule(convolution.single.work.name), nn.Conv2d)
    work = convolution.single.work
    assert convolution.single.efficiency(2.0, 1.0) == work.total / work.largest / 2


class _Enlarge(nn.Module):
    def forward(self, x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
