"""Stems: shapes at every stride, and that their rows grow."""

from __future__ import annotations

import pytest
import torch

from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.models.stems import STEM_STRIDES, STEMS, DCTStem


@pytest.mark.parametrize("stride", STEM_STRIDES)
@pytest.mark.parametrize("name", STEMS)
def test_shapes(name, stride):
    stem = DCTStem(name, 24, stride=stride).eval()
    features = stem(torch.randn(2, 64, 8, 12), torch.randn(2, 128, 4, 6))
    assert features.shape == (2, 24, 64 // stride, 96 // stride)


def test_odd_grids_luma_alone_and_rectified_maps():
    odd = DCTStem("small", 8).eval()(torch.randn(1, 64, 5, 7), torch.randn(1, 128, 3, 4))
    assert odd.shape == (1, 8, 5, 7)
    luma_alone = DCTStem("small", 8, chroma=False, rectified=True).eval()
    features = luma_alone(torch.randn(1, 64, 6, 6))
    assert features.shape == (1, 8, 6, 6) and features.min() == 0 and features.max() > 0


def test_rows_grow():
    sizes = [sum(p.numel() for p in DCTStem(name, 32).parameters()) for name in ("small", "medium", "large")]
    assert sizes == sorted(sizes) and 100_000 < sizes[0] < 200_000 and sizes[1] < 500_000


def test_what_is_refused():
    with pytest.raises(ModelError, match="unknown stem 'tiny': expected one of small, medium, large"):
        DCTStem("tiny", 8)
    with pytest.raises(ModelError, match="a stem of stride 32: expected one of 4, 8, 16"):
        DCTStem("small", 8, stride=32)
