"""EXIF orientation: coefficients against float64 on the upright picture, pixels against Pillow's exif_transpose."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from jpegdeep_torch.jpeg import ReadOptions, Resize, check_jpeg, read_dct, read_header, read_planes, resize_batch
from jpegdeep_torch.jpeg.orientation import exif_orientation
from jpegdeep_torch.jpeg.pixels import DECODERS, decode_on_device, decode_rgb
from tests.jpeg import pixel_path
from tests.jpeg.jpeg_files import SAMPLINGS, pillow_jpeg, random_integers, write_jpeg
from tests.jpeg.test_reader import needs_native

STORED = ReadOptions(orientation="stored")
TOLERANCE = 1e-3


def exif(orientation: int, order: str = "big", *, kind: int = 3, count: int = 1) -> bytes:
    """The body of an APP1 segment: a TIFF directory with the camera's make and the orientation in it."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, order)

    size = {1: 1, 3: 2, 4: 4}[kind]
    make = number(0x010F, 2) + number(2, 2) + number(4, 4) + b"abc\x00"
    entry = number(0x0112, 2) + number(kind, 2) + number(count, 4) + number(orientation, size).ljust(4, b"\x00")
    start = b"MM\x00*" if order == "big" else b"II*\x00"
    return b"Exif\x00\x00" + start + number(8, 4) + number(2, 2) + make + entry + bytes(4)


def with_exif(data: bytes, body: bytes) -> bytes:
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def upright_indices(height: int, width: int, orientation: int) -> np.ndarray:
    """Which stored pixel each of the upright picture's is, by Pillow's exif_transpose."""
    image = Image.fromarray(np.arange(height * width, dtype=np.int32).reshape(height, width))
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def expected_coefficients(data: bytes, orientation: int, resize: Resize, transform=lambda samples: samples):
    stored = read_planes(data, options=STORED)
    indices = upright_indices(*stored.image_size, orientation)
    return pixel_path.resize(stored, resize.size, resize.antialias, lambda samples: transform(samples.ravel()[indices]))


def read_float(data: bytes, resize: Resize, **options) -> list[np.ndarray]:
    luma_grid, chroma_grid = resize.grids()
    out = np.empty((*luma_grid, 64), np.float32), np.empty((*chroma_grid, 128), np.float32)
    read_dct(data, resize=resize, out=out, **options)
    return [out[0], out[1][..., :64], out[1][..., 64:]]


def assert_equal(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(got, expected):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= TOLERANCE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("size", [(33, 50), (48, 31), (40, 64), (1, 2), (17, 3)])
def test_turned_coefficients_are_the_upright_picture_s(orientation, sampling, size):
    tables = np.full((len(sampling), 64), 4)
    plain = write_jpeg(random_integers(size, sampling, seed=orientation), size, sampling, tables)
    turned = with_exif(plain, exif(orientation))
    for resize in (Resize((40, 56)), Resize((24, 19), antialias=True)):
        expected = expected_coefficients(turned, orientation, resize)
        assert_equal(read_float(turned, resize), expected)
        luma, chroma = resize_batch([read_planes(turned)], resize, dtype="float32")
        assert_equal([luma[0].numpy(), chroma[0, ..., :64].numpy(), chroma[0, ..., 64:].numpy()], expected)
    stored = read_float(turned, Resize((40, 56)), options=STORED)
    for a, b in zip(stored, read_float(plain, Resize((40, 56)))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crop_and_flip_are_of_the_upright_picture(orientation):
    size, sampling = (61, 90), SAMPLINGS["4:2:0"]
    data = write_jpeg(random_integers(size, sampling), size, sampling, np.full((3, 64), 3))
    data = with_exif(data, exif(orientation, "little"))
    top, left, height, width = crop = (13, 6, 44, 51)

    def transform(samples):
        return samples[top : top + height, left : left + width][:, ::-1]

    resize = Resize((48, 32), crop=crop, flip_horizontal=True)
    assert_equal(read_float(data, resize), expected_coefficients(data, orientation, resize, transform))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_whole_blocks_move_and_change_signs_and_nothing_else(orientation):
    """At the same size, of whole macroblocks, the numbers are the file's own."""
    size, sampling = (48, 80), SAMPLINGS["gray"]
    data = with_exif(write_jpeg(random_integers(size, sampling), size, sampling, np.ones((1, 64))), exif(orientation))
    own = read_planes(data, options=STORED).coefficients[0]
    upright = read_header(data).image_size
    luma = read_dct(data, upright).luma
    np.testing.assert_array_equal(np.sort(np.abs(luma), axis=None), np.sort(np.abs(own), axis=None))
    pixels = pixel_path.pixels(own).ravel()[upright_indices(*size, orientation)]
    np.testing.assert_array_equal(luma, np.rint(pixel_path.coefficients(pixels)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_pillows(orientation, mode):
    data = with_exif(pillow_jpeg(75, 100, mode=mode), exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        stored = np.asarray(image.convert("RGB")).astype(int)
    assert read_header(data).image_size == check_jpeg(data).image_size == expected.shape[:2]
    assert read_header(data).stored_size == read_header(data, options=STORED).image_size == stored.shape[:2]
    for decoder in DECODERS:
        assert np.abs(decode_rgb(data, decoder=decoder, size=300) - expected).max() <= 3
        assert np.abs(decode_rgb(data, decoder=decoder, size=300, options=STORED) - stored).max() <= 3
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    for options, pixels in ((ReadOptions(), expected), (STORED, stored)):
        small = decode_on_device([encoded], 40, "cpu", options=options)[0]
        wanted = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        wanted = torch.nn.functional.interpolate(wanted, (40, 40), mode="bilinear")[0]
        assert (small - wanted).abs().max() <= 4


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_both_byte_orders_and_every_width_of_number(order, kind):
    for orientation in range(1, 9):
        assert exif_orientation(exif(orientation, order, kind=kind)) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_orientations_that_do_not_exist(orientation):
    assert exif_orientation(exif(orientation)) == 1


def test_damaged_exif_is_the_stored_frame():
    body = exif(6)
    whole = {length for length in range(len(body) + 1) if exif_orientation(body[:length]) == 6}
    assert min(whole) == len(body) - 6  # the padding and the end of the directory may be missing, nothing else
    rng = np.random.default_rng(0)
    data = pillow_jpeg(24, 40)
    for _ in range(300):
        noise = bytearray(body)
        for at in rng.integers(0, len(body), 3):
            noise[at] = rng.integers(256)
        assert 1 <= read_header(with_exif(data, bytes(noise))).orientation <= 8
    assert exif_orientation(exif(6, count=2)) == 1
    assert exif_orientation(b"http://ns.adobe.com/xap/1.0/\x00" + body) == 1


def test_the_first_exif_block_counts():
    data = pillow_jpeg(24, 40)
    assert read_header(with_exif(with_exif(data, exif(3)), exif(8))).orientation == 8
    assert read_header(with_exif(with_exif(data, exif(3)), b"http://ns.adobe.com/xap/1.0/\x00")).orientation == 3


@needs_native
def test_a_batch_of_all_orientations_is_each_alone():
    files = [with_exif(pillow_jpeg(50 + 8 * o, 90 - 5 * o, seed=o), exif(o)) for o in range(1, 9)]
    luma, chroma = resize_batch([read_planes(file) for file in files], Resize((64, 48)), dtype="float32")
    for i, file in enumerate(files):
        alone = read_float(file, Resize((64, 48)))
        assert_equal([luma[i].numpy(), chroma[i, ..., :64].numpy(), chroma[i, ..., 64:].numpy()], alone)


@needs_native
@pytest.mark.parametrize("orientation", [6, 7])
def test_transposed_writing_by_the_baseline_kernels(orientation):
    from jpegdeep_torch.jpeg import _native
    from jpegdeep_torch.jpeg.resize import native_targets

    planes = read_planes(with_exif(pillow_jpeg(75, 133), exif(orientation)))
    results = []
    for baseline in (False, True):
        luma, chroma = np.zeros((10, 7, 64), np.int16), np.zeros((5, 4, 128), np.int16)
        resize = Resize((75, 50))
        targets = native_targets(luma, chroma, resize, planes.image_size, planes.sampling, 75, orientation)
        for plane, target in zip(planes.coefficients, targets):
            _native.resize_plane(plane, target, baseline)
        results.append(np.concatenate([luma.ravel(), chroma.ravel()]))
    assert np.mean(results[0] != results[1]) < 1e-3
    assert results[0].any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tensors_and_arrays_are_turned_as_pillow_turns(orientation):
    from jpegdeep_torch.jpeg.orientation import TURNS, turn_upright
    from jpegdeep_torch.jpeg.pixels import _turned

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = pixels.reshape(-1, 3)[upright_indices(5, 7, orientation)]
    np.testing.assert_array_equal(turn_upright(pixels, orientation), expected)
    tensor = _turned(torch.from_numpy(pixels).permute(2, 0, 1), TURNS[orientation])
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), expected)
