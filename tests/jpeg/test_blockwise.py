"""The blockwise DCT of tensors against Pillow's encoder and our reader, and against the formula in float64."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image

from jpegdeep_torch.jpeg import read_planes
from jpegdeep_torch.jpeg.blockwise import blockwise_dct
from jpegdeep_torch.jpeg.quantization import standard_tables
from tests.jpeg_samples import picture


@pytest.mark.parametrize("size", [(300, 300), (224, 224), (37, 50)])
# The rest is one step off: libjpeg's integer DCT rounds within, which shows the more the finer the steps are.
@pytest.mark.parametrize(("quality", "equal"), [(50, 0.995), (75, 0.995), (95, 0.97)])
def test_quantised_it_is_a_jpeg_s_coefficients(size, quality, equal):
    pixels = picture(*size, seed=quality)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    planes = read_planes(buffer.getvalue())
    luma, chroma = blockwise_dct(torch.from_numpy(pixels).permute(2, 0, 1)[None], quality)
    tables = standard_tables(quality)
    found = (luma[0].numpy(), chroma[0, ..., :64].numpy(), chroma[0, ..., 64:].numpy())
    for own, plane, table in zip(found, planes.coefficients, (tables[0], tables[1], tables[1])):
        rows, columns = plane.shape[:2]
        steps = np.abs(own[:rows, :columns] - plane) / table
        assert steps.max() <= 1 + 1e-5 and (steps < 1e-5).mean() > equal
        assert not own[rows:].any() and not own[:, columns:].any()
        assert plane.any()


def test_unquantised_it_is_the_formula():
    pixels = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 400 - 70  # not clamped either
    luma, chroma = blockwise_dct(pixels)
    red, green, blue = pixels.double().numpy().swapaxes(0, 1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    for own, plane in (
        (luma, y - 128),
        (chroma[..., :64], ((blue - y) / 1.772).reshape(2, 24, 2, 32, 2).mean(axis=(2, 4))),
        (chroma[..., 64:], ((red - y) / 1.402).reshape(2, 24, 2, 32, 2).mean(axis=(2, 4))),
    ):
        blocks = plane.reshape(2, plane.shape[1] // 8, 8, -1, 8).swapaxes(2, 3)
        expected = scipy.fft.dctn(blocks, axes=(3, 4), norm="ortho").reshape(own.shape)
        np.testing.assert_allclose(own, expected, atol=2e-3)
    torch.testing.assert_close(blockwise_dct(pixels, chroma=False)[0], luma)
