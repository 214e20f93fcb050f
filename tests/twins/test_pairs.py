"""Coefficients and pixels of the same part of the same picture."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from jpegdeep_torch.jpeg import Resize, read_dct, read_planes
from jpegdeep_torch.jpeg.blockwise import blockwise_dct
from jpegdeep_torch.twins import pairs as pairs_module
from jpegdeep_torch.twins.pairs import Augmentation, draw_resize, make_pairs, requantized, to_pixels
from tests.shapes import draw_scene


def jpeg_of(picture: Image.Image, quality: int = 92, subsampling: int = 2) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_the_pixels_are_those_of_a_decoder_and_the_coefficients_those_of_read_dct(subsampling, flip):
    picture = draw_scene(3)[0]
    data = jpeg_of(picture, subsampling=subsampling)
    resize = Resize((64, 64), crop=(8, 20, 90, 90), flip_horizontal=flip)
    made = make_pairs([(read_planes(data), resize)] * 2)
    decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[8:98, 20:110]
    wanted = cv2.resize(decoded, (64, 64), interpolation=cv2.INTER_LINEAR)
    wanted = wanted[:, ::-1] if flip else wanted
    error = np.abs(made.pixels[1].permute(1, 2, 0).numpy() - wanted)
    assert error.mean() < 1 and np.quantile(error, 0.99) < 6  # decoders round and cut on the way
    luma, chroma, _ = read_dct(data, resize=resize)
    assert np.array_equal(made.luma[0].permute(1, 2, 0).numpy(), luma)
    assert np.array_equal(made.chroma[0].permute(1, 2, 0).numpy(), chroma)


def test_pixels_without_the_native_part(monkeypatch):
    planes = read_planes(jpeg_of(draw_scene(4)[0]))
    resize = Resize((48, 48), crop=(0, 0, 100, 100))
    native = make_pairs([(planes, resize)])
    monkeypatch.setattr(pairs_module, "native_module", lambda: None)
    torch.testing.assert_close(make_pairs([(planes, resize)]).pixels, native.pixels, rtol=0, atol=1e-2)


def test_a_grayscale_picture_has_no_colour():
    planes = read_planes(jpeg_of(draw_scene(4)[0].convert("L")))
    pixels = make_pairs([(planes, Resize((48, 48)))]).pixels
    assert torch.allclose(pixels[:, 0], pixels[:, 1]) and torch.allclose(pixels[:, 0], pixels[:, 2])


def test_the_inverse_transform_undoes_the_forward_one():
    pixels = torch.rand(1, 3, 32, 48) * 255
    planes = []
    for channel in range(3):  # of gray pictures, one for each of Y, Cb and Cr
        planes.append(blockwise_dct(pixels[:, channel : channel + 1].expand(-1, 3, -1, -1), chroma=False)[0])
    y, cb, cr = pixels[:, 0], pixels[:, 1] - 128, pixels[:, 2] - 128
    wanted = torch.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), dim=1).clamp(0, 255)
    torch.testing.assert_close(to_pixels(torch.cat(planes, dim=3), (32, 48)), wanted, rtol=0, atol=0.01)


def test_requantised_planes_are_those_that_pillow_writes():
    """Of a picture that Pillow has written finely, one that it has written again in steps of quality 60."""
    picture = draw_scene(5)[0].convert("L")
    fine, coarse = (read_planes(jpeg_of(picture, quality)) for quality in (100, 60))
    ours = requantized(fine, 60).coefficients[0]
    assert (ours != coarse.coefficients[0]).mean() < 0.01  # steps of 1 have moved a few over half a step


def test_parts_are_drawn_within_the_picture_and_as_asked():
    rng = np.random.default_rng(0)
    drawn = [draw_resize((120, 200), 64, Augmentation(smallest=0.5), rng) for _ in range(300)]
    for resize in drawn:
        top, left, height, width = resize.crop
        assert height == width and 60 <= height <= 120 and top + height <= 120 and left + width <= 200
    assert (
        0.4 < np.mean([r.flip_horizontal for r in drawn]) < 0.6 and 0.15 < np.mean([r.antialias for r in drawn]) < 0.35
    )
