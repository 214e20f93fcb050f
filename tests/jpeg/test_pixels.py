"""Decoding and re-encoding, against Pillow, a formula, and the stored outputs of the reference's pipeline."""

import io
import sys

import numpy as np
import pytest
from PIL import Image, features

from jpegdeep_torch.errors import JpegError, ModelError
from jpegdeep_torch.jpeg.pixels import DECODERS, decode_rgb, shorter_side_and_crop, stretch
from jpegdeep_torch.jpeg.reencode import encode_jpeg, jpeg_coefficients, reencode
from tests.jpeg.fuzz import peak_bytes, reset_peak
from tests.jpeg_samples import KINDS, jpeg, picture


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_decoders_agree_with_pillow(decoder, kind):
    data = jpeg(**KINDS[kind])
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    got = decode_rgb(data, decoder=decoder, size=300)
    assert got.dtype == np.uint8 and got.shape == expected.shape
    difference = np.abs(got.astype(int) - expected)
    # libjpeg versions may round an inverse DCT or a colour conversion to the neighbouring value
    assert difference.max() <= 3 and difference.mean() < 0.5


def test_draft_mode_decodes_large_files_smaller():
    data = jpeg(picture(1200, 1600))
    assert decode_rgb(data, decoder="pillow-draft", size=300).shape == (300, 400, 3)


def test_unknown_decoder_and_undecodable_file():
    with pytest.raises(ModelError, match=r"expected one of native, "):
        decode_rgb(jpeg(), decoder="guess")
    for decoder in DECODERS:
        with pytest.raises(JpegError, match=r"a\.jpg: no image in it"):
            decode_rgb(b"\xff\xd8\xff\xd9", "a.jpg", decoder=decoder)


def test_stretch_is_bilinear_with_half_pixel_centres():
    pixels = picture(90, 70)
    size = 40
    got = stretch(pixels, size)
    y = np.clip((np.arange(size) + 0.5) * 90 / size - 0.5, 0, 89)
    x = np.clip((np.arange(size) + 0.5) * 70 / size - 0.5, 0, 69)
    y0, x0 = np.minimum(y.astype(int), 88), np.minimum(x.astype(int), 68)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    p = pixels.astype(float)
    rows = p[y0] * (1 - fy) + p[y0 + 1] * fy
    expected = rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx
    assert np.abs(got - expected).max() <= 1.0  # OpenCV works with 11-bit fractions


def test_shorter_side_and_crop():
    assert shorter_side_and_crop(picture(300, 500), 256, 224).shape == (224, 224, 3)
    assert shorter_side_and_crop(picture(50, 20), 256, 224).shape == (224, 224, 3)
    flat = np.full((100, 400, 3), 7, np.uint8)
    flat[:, 150:250] = 200  # the middle, and a little more than the cut
    assert (shorter_side_and_crop(flat, 256, 224) == 200).all()


def test_coefficients_are_the_blockwise_dct_of_the_pixels():
    """T.81's forward DCT of the luma, written out; quantisation moves each coefficient by at most half a step."""
    gray = picture(64, 64)[..., :1].repeat(3, axis=-1)
    luma, chroma = reencode(gray, quality=100)
    k = np.arange(8)
    matrix = np.cos((2 * k[None] + 1) * k[:, None] * np.pi / 16) * np.where(k == 0, np.sqrt(1 / 8), 0.5)[:, None]
    blocks = gray[..., 0].astype(float).reshape(8, 8, 8, 8).transpose(0, 2, 1, 3) - 128
    expected = (matrix @ blocks @ matrix.T).reshape(8, 8, 64)
    assert np.abs(luma - expected).max() <= 1.5  # half a step of 1, and libjpeg's integer DCT
    assert luma.dtype == np.int16 and luma.shape == (8, 8, 64)
    assert chroma.shape == (4, 4, 128) and np.abs(chroma).max() <= 1


def test_odd_luma_counts_are_padded_with_zeros():
    luma, chroma = jpeg_coefficients(encode_jpeg(picture(40, 72)))  # 5x9 luma blocks, 3x5 of chroma
    assert luma.shape == (6, 10, 64) and chroma.shape == (3, 5, 128)
    assert not luma[5].any() and not luma[:, 9].any() and luma[:5, :9].any()


@pytest.mark.parametrize("quality", [10, 75, 100])
@pytest.mark.parametrize("size", [(300, 300), (41, 57), (8, 8)])
def test_all_readers_give_the_same_coefficients_of_what_was_encoded_again(size, quality):
    """The reference reads with jpeg2dct, which is none of ours."""
    pixels = picture(*size, seed=quality)
    found = [reencode(pixels, quality, reader=reader) for reader in ("auto", "jpeg2dct")]
    for ours, expected in zip(*found):
        assert ours.dtype == expected.dtype == np.int16 and (ours == expected).all()


def test_reference_pipeline(shared):
    golden = np.load(shared / "reference" / "golden" / "voc_pipeline.npz")
    same_library = features.version("libjpeg_turbo") is not None
    for i, name in enumerate(golden["names"]):
        data = (shared / "data" / "bccd" / "JPEGImages" / f"{name}.jpg").read_bytes()
        assert (stretch(decode_rgb(data), 300) == golden["resized_rgb"][i]).all()
        for got, expected in zip(reencode(golden["resized_rgb"][i]), (golden["dct_0"][i], golden["dct_1"][i])):
            if same_library:
                assert (got == expected).all()
            else:
                assert np.abs(got.astype(int) - expected).max() <= 121  # the largest step of quality 75's tables


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 9_000)])
def test_the_middle_of_a_strip_is_cut_out_before_the_rest_is_resized(shape):
    strip = picture(*shape)
    got = shorter_side_and_crop(strip, 256, 224)
    # The same middle by itself, with enough around it for the crop to be the same.
    long, short = max(shape), min(shape)
    part = 8 * short
    start = (long - part) // 2
    middle = strip[:, start : start + part] if shape[1] == long else strip[start : start + part]
    alone = shorter_side_and_crop(np.ascontiguousarray(middle), 256, 224)
    assert got.shape == alone.shape == (224, 224, 3)
    assert np.abs(got.astype(int) - alone).max() <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")
def test_a_strip_takes_little_memory():
    """1 x 20,000 pixels, resized whole to 256 x 5,120,000, took 4 GB."""
    pixels = picture(1, 20_000)
    shorter_side_and_crop(picture(), 256, 224)
    reset_peak()
    before = peak_bytes()
    shorter_side_and_crop(pixels, 256, 224)
    assert peak_bytes() - before < 100e6


def test_the_middle_of_a_large_picture_is_what_opencv_cuts_out(monkeypatch):
    from jpegdeep_torch.jpeg import pixels as module

    image = picture(300, 411)
    whole = shorter_side_and_crop(image, 256, 224)
    monkeypatch.setattr(module, "_LARGEST_RESIZED_PX", 0)
    assert np.abs(shorter_side_and_crop(image, 256, 224).astype(int) - whole).max() <= 1


def test_torchvision_s_messages_come_without_its_source_paths(monkeypatch):
    from jpegdeep_torch.jpeg import pixels as module

    with pytest.raises(RuntimeError) as caught:
        DECODERS["torchvision"](b"\xff\xd8\xff\xd9", 0)
    assert ".cpp" in str(caught.value)
    assert ".cpp" not in module._reason(caught.value) and module._reason(caught.value)


@pytest.mark.skipif("torchvision" not in DECODERS, reason="no torchvision.io.decode_jpeg")
def test_what_a_library_does_not_take_libjpeg_decodes(monkeypatch):
    def refuse(data, size):
        raise RuntimeError("decode_jpeg, /somewhere/decode_jpeg.cpp:135, unusual")

    monkeypatch.setitem(DECODERS, "torchvision", refuse)
    data = jpeg()
    np.testing.assert_array_equal(decode_rgb(data, decoder="torchvision"), decode_rgb(data, decoder="native"))
    with pytest.raises(JpegError, match=r"by torchvision \(unusual\)"):
        decode_rgb(jpeg(mode="CMYK"), decoder="torchvision")
