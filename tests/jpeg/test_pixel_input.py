"""Pixels from coefficients, against float64 on pixels with Pillow's resampler, and against Pillow's own path."""

import numpy as np
import pytest
import torch
from PIL import Image

from jpegdeep_torch.jpeg import Resize, fit_image, pixels_batch, read_planes, read_rgb
from tests.jpeg import pixel_path
from tests.jpeg.jpeg_files import SAMPLINGS, grids, picture, write_jpeg
from tests.jpeg.test_reader import needs_native

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}
UNUSUAL = {  # chroma finer than luma, four times coarser, and coarser in one component alone
    "chroma finer": ((1, 1), (2, 2), (2, 1)),
    "a quarter down": ((1, 4), (1, 1), (1, 1)),
    "unequal": ((2, 2), (2, 1), (1, 2)),
}
ALL_SAMPLINGS = SAMPLINGS | UNUSUAL


def sampled_jpeg(image_size, sampling, seed=0) -> bytes:
    """A JPEG of a picture, quantised as a camera's is, of any sampling."""
    image = picture(*image_size, seed)
    steps = np.arange(64) // 8 + np.arange(64) % 8 + 2
    integers = []
    for c, (rows, columns) in enumerate(grids(image_size, sampling)):
        samples = np.asarray(Image.fromarray(image[..., c]).resize((8 * columns, 8 * rows)), np.float64) - 128
        integers.append(np.round(pixel_path.coefficients(samples) / steps).astype(int))
    return write_jpeg(integers, image_size, sampling, np.tile(steps, (len(sampling), 1)))


def resample(samples: np.ndarray, size: tuple[int, int], interpolation: str, antialias: bool = True) -> np.ndarray:
    """Pillow's resampler on numbers that are not rounded, an axis at a time."""
    if not antialias:
        return pixel_path.interpolate(samples, size, False)
    image = Image.fromarray(np.ascontiguousarray(samples, np.float32))
    image = image.resize((size[1], samples.shape[0]), PILLOW[interpolation])
    return np.asarray(image.resize(size[::-1], PILLOW[interpolation]), np.float64)


def expected_pixels(data, place_size, interpolation, antialias=True, transform=lambda samples: samples) -> np.ndarray:
    """float64 (height, width, 3): inverse DCT, upsample, resample, colour; neither clipped nor rounded."""
    planes = read_planes(data)
    largest = tuple(max(factors) for factors in zip(*planes.sampling))
    y, *chroma = (
        resample(
            transform(pixel_path.component_pixels(blocks, planes.image_size, factors, largest)),
            place_size, interpolation, antialias,
        )
        for blocks, factors in zip(planes.coefficients, planes.sampling)
    )  # fmt: skip
    cb, cr = chroma or (0, 0)
    channels = y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb
    return np.stack(np.broadcast_arrays(*channels), axis=-1) + 128


def rounded(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def assert_same(got, expected):
    difference = np.abs(got.astype(int) - rounded(expected))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999 or difference.sum() <= 1


def random_case(case: int):
    rng = np.random.default_rng(case)
    image_size, size = np.exp(rng.uniform(0, np.log(360), (2, 2))).astype(int).tolist()
    sampling = list(ALL_SAMPLINGS.values())[case % len(ALL_SAMPLINGS)]
    top, left = (int(rng.integers(0, px)) for px in image_size)
    crop = (top, left, *(int(rng.integers(1, px - start + 1)) for px, start in zip(image_size, (top, left))))
    resize = Resize(
        tuple(size), bool(rng.integers(3)), crop if rng.integers(2) else None, bool(rng.integers(2)),
        bool(rng.integers(2)), interpolation=["bilinear", *PILLOW][case % 5],
    )  # fmt: skip
    return sampled_jpeg(tuple(image_size), sampling, case), resize


def cut_and_mirrored(resize: Resize):
    def transform(samples):
        top, left, height, width = resize.crop or (0, 0, *samples.shape)
        rows, columns = slice(None, None, -1 if resize.flip_vertical else 1), slice(None, None, -1)
        part = samples[top : top + height, left : left + width][rows]
        return (part[:, columns] if resize.flip_horizontal else part).copy()

    return transform


@needs_native
@pytest.mark.parametrize("block", range(10))
def test_random_cases_equal_the_float64_reference(block):
    """300 of sizes, samplings, crops, flips and resamplers."""
    equal = total = 0
    for case in range(30 * block, 30 * block + 30):
        data, resize = random_case(case)
        antialias = resize.antialias or resize.interpolation != "bilinear"
        expected = rounded(
            expected_pixels(data, resize.size, resize.interpolation, antialias, cut_and_mirrored(resize))
        )
        difference = np.abs(read_rgb(data, resize=resize).astype(int) - expected)
        assert difference.max() <= 1, case
        equal, total = equal + (difference == 0).sum(), total + difference.size
    assert equal / total >= 0.999


@pytest.mark.parametrize("sampling", ALL_SAMPLINGS.values(), ids=ALL_SAMPLINGS)
@pytest.mark.parametrize("size", [(40, 33), (190, 250)])
def test_pytorch_and_the_baseline_kernels_give_the_same(size, sampling):
    data = sampled_jpeg((123, 171), sampling)
    expected = expected_pixels(data, size, "bilinear")
    assert_same(read_rgb(data, size), expected)
    assert_same(pixels_batch([read_planes(data)], fit_image((123, 171), size))[0].permute(1, 2, 0).numpy(), expected)
    assert np.abs(read_rgb(data, size, dtype="float32") - expected.clip(0, 255)).max() < 2e-3


def test_a_batch_of_ragged_files_with_a_resize_each():
    files = [sampled_jpeg(size, SAMPLINGS[name], i) for i, (size, name) in enumerate(
        {(100, 130): "4:2:0", (64, 300): "4:4:4", (51, 40): "gray", (200, 90): "4:2:2"}.items())]  # fmt: skip
    planes = [read_planes(data) for data in files]
    resizes = [fit_image(each.image_size, (96, 64), "letterbox", fill=(10, 200, 30)) for each in planes]
    pixels = pixels_batch(planes, resizes)
    assert pixels.shape == (4, 3, 96, 64) and pixels.dtype == torch.uint8
    for data, resize, got in zip(files, resizes, pixels):
        difference = np.abs(read_rgb(data, resize=resize).astype(int) - got.permute(1, 2, 0).numpy())
        assert difference.max() <= 1 and (difference == 0).mean() > 0.999
