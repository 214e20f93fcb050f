"""Multiply-adds by hand, and the figure made of them."""

from __future__ import annotations

from torch import nn

from jpegdeep_torch.backends import get_backend
from jpegdeep_torch.backends.roofline import count_multiply_adds, measure_roofline
from jpegdeep_torch.models import create_model

from .conftest import small_detector


def test_multiply_adds_of_vgg16():
    work = count_multiply_adds(create_model("vgg16", num_classes=1000))
    # The published 15.5 G of VGG-16 at 224 px, its dense layers included.
    assert 15.4e9 < work.total < 15.6e9


def test_the_largest_convolution_of_the_dct_detector():
    work = count_multiply_adds(create_model("ssd300_vgg16_dct"))
    assert work.largest == 512 * 512 * 9 * 38 * 38
    assert work.input_shape == (512, 38, 38)
    assert 4.3 < work.total / work.largest < 4.5


def test_transposed_convolutions_count():
    model = create_model("ssd300_vgg16_dct_deconv")
    plain = sum(m.weight.numel() for m in model.trunk.base.deconv.children()) * 19 * 19
    for name in ("deconv_cb", "deconv_cr"):
        setattr(model.trunk.base.deconv, name, _Enlarge())
    assert (
        count_multiply_adds(create_model("ssd300_vgg16_dct_deconv")).total - count_multiply_adds(model).total == plain
    )


def test_the_figure_is_made_of_its_parts():
    model = small_detector()
    backend = get_backend("torch")
    runner = backend.build(model, batch_sizes=(1,))
    result = measure_roofline(backend, runner, model, batch_size=1, seconds=0.1)
    assert result.network_ms > result.convolution_ms > 0
    assert result.efficiency > 0
    assert result.convolution.startswith("trunk.")


class _Enlarge(nn.Module):
    def forward(self, x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
