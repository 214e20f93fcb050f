import io
import os

import numpy as np
import pytest
from PIL import Image

from jpegdeep_torch.jpeg import (
    Planes,
    Resize,
    read_dct,
    read_planes,
    resize_batch,
    resize_planes,
    standard_tables,
)
from tests.jpeg import pixel_path
from tests.jpeg.jpeg_files import BCCD, SAMPLINGS, SHARED, grids, needs_shared, picture, pillow_jpeg, random_integers
from tests.jpeg.test_reader import needs_native

# The whole of what the project promises takes minutes: JPEGDEEP_FULL=1 runs it.
FULL = bool(os.environ.get("JPEGDEEP_FULL"))
LONGEST = 2000 if FULL else 700
TOLERANCE = 1e-3


def make_planes(image_size, sampling, seed=0) -> Planes:
    """Planes of a picture, quantised as a camera's are."""
    image = picture(*image_size, seed)
    steps = np.arange(64) // 8 + np.arange(64) % 8 + 2
    planes = []
    for c, (rows, columns) in enumerate(grids(image_size, sampling)):
        samples = np.asarray(Image.fromarray(image[..., c]).resize((8 * columns, 8 * rows)), np.float64) - 128
        planes.append((np.round(pixel_path.coefficients(samples) / steps) * steps).astype(np.int16))
    return Planes(tuple(planes), image_size, sampling, np.tile(steps.astype(np.uint16), (len(sampling), 1)))


def split(chroma: np.ndarray) -> list[np.ndarray]:
    return [chroma[..., :64], chroma[..., 64:]]


def assert_close(planes, resize, expected, backend="auto"):
    luma, chroma = resize_planes(planes, resize, dtype="float32", backend=backend)
    got = [luma, *split(chroma)][: len(expected)]
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= TOLERANCE


@pytest.mark.parametrize("case", range(200 if FULL else 60))
def test_equals_the_pixel_path(case):
    rng = np.random.default_rng(case)
    image_size, size = np.exp(rng.uniform(0, np.log(LONGEST + 0.99), (2, 2))).astype(int).tolist()
    sampling = list(SAMPLINGS.values())[case % len(SAMPLINGS)]
    antialias = bool(rng.integers(2))
    planes = make_planes(tuple(image_size), sampling, case)
    expected = pixel_path.resize(planes, tuple(size), antialias)
    for backend in ("auto", "torch"):
        assert_close(planes, Resize(tuple(size), antialias), expected, backend)


@pytest.mark.parametrize("edge", [(1, 1), (1, 2000), (2000, 1), (2000, 2000)])
def test_extreme_sizes(edge):
    for image_size, size in ((edge, (38, 50)), ((30, 45), edge)):
        planes = make_planes(image_size, SAMPLINGS["4:2:0"])
        assert_close(planes, Resize(size), pixel_path.resize(planes, size))


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_crop_flip_and_resize(sampling):
    planes = make_planes((123, 171), sampling)
    top, left, height, width = crop = (17, 30, 80, 101)

    def transform(samples):
        return samples[top : top + height, left : left + width][::-1, ::-1]

    resize = Resize((64, 90), crop=crop, flip_horizontal=True, flip_vertical=True)
    expected = pixel_path.resize(planes, (64, 90), transform=transform)
    assert_close(planes, resize, expected)
    assert_close(planes, resize, expected, backend="torch")


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_flips_and_crops_of_whole_blocks_are_exact(backend):
    """At the same size nothing is interpolated: coefficients move, and odd frequencies change sign."""
    planes = make_planes((96, 128), SAMPLINGS["gray"])
    blocks = planes.coefficients[0]
    same, _ = resize_planes(planes, Resize((96, 128)), backend=backend)
    np.testing.assert_array_equal(same, blocks)
    flipped, _ = resize_planes(planes, Resize((96, 128), flip_horizontal=True), backend=backend)
    signs = np.where(np.arange(64) % 8 % 2 == 0, 1, -1)
    np.testing.assert_array_equal(flipped, blocks[:, ::-1] * signs)
    cropped, _ = resize_planes(planes, Resize((48, 64), crop=(16, 8, 48, 64)), backend=backend)
    np.testing.assert_array_equal(cropped, blocks[2:8, 1:9])


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("sampling", ["4:2:0", "4:4:4", "gray"])
@pytest.mark.parametrize("fill", [(128.0,) * 3, (104.0, 140.5, 90.0)])
def test_padding(backend, sampling, fill):
    planes = make_planes((60, 81), SAMPLINGS[sampling])
    place = top, left, height, width = (9, 20, 50, 61)
    resize = Resize((96, 96), place=place, fill=fill)
    largest = tuple(max(factors) for factors in zip(*planes.sampling))
    luma, chroma = resize_planes(planes, resize, dtype="float32", backend=backend)
    for c, got in enumerate([luma, *split(chroma)]):
        inside = np.zeros((60, 81))  # what a grayscale file has for colour
        if c < len(planes.coefficients):
            inside = pixel_path.component_pixels(planes.coefficients[c], (60, 81), planes.sampling[c], largest)
        canvas = np.full((96, 96), fill[c] - 128)
        canvas[top : top + height, left : left + width] = pixel_path.interpolate(inside, (height, width), False)
        assert np.abs(got - pixel_path.compress(canvas, chroma=c > 0)).max() <= TOLERANCE


def test_ragged_batch_equals_one_by_one():
    cases = [((50, 70), "4:2:0"), ((33, 21), "gray"), ((64, 64), "4:4:4"), ((50, 70), "4:2:0"), ((20, 90), "4:1:1")]
    batch = [make_planes(size, SAMPLINGS[name], seed) for seed, (size, name) in enumerate(cases)]
    resizes = [Resize((48, 56), flip_horizontal=bool(i % 2)) for i in range(len(batch))]
    luma, chroma = resize_batch(batch, resizes, requantize=75)
    assert luma.shape == (5, 6, 7, 64)
    assert chroma.shape == (5, 3, 4, 128)
    for i, planes in enumerate(batch):
        one = resize_planes(planes, resizes[i], requantize=75)
        np.testing.assert_array_equal(luma[i].numpy(), one[0])
        np.testing.assert_array_equal(chroma[i].numpy(), one[1])


@needs_native
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_baseline_kernels_equal_the_chosen_ones(sampling):
    from jpegdeep_torch.jpeg import _native
    from jpegdeep_torch.jpeg.resize import native_targets

    planes = make_planes((203, 333), sampling)
    results = []
    for baseline in (False, True):
        luma, chroma = np.zeros((38, 38, 64), np.float32), np.zeros((19, 19, 128), np.float32)
        targets = native_targets(luma, chroma, Resize(), planes.image_size, planes.sampling, None)
        for plane, target in zip(planes.coefficients, targets):
            _native.resize_plane(plane, target, baseline)
        results.append(np.concatenate([luma.ravel(), chroma.ravel()]))
    np.testing.assert_allclose(*results, atol=2e-4)


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 75, 95, 100])
def test_tables_are_pillows(quality):
    with Image.open(io.BytesIO(pillow_jpeg(8, 8, quality=quality))) as image:
        np.testing.assert_array_equal(standard_tables(quality), [image.quantization[0], image.quantization[1]])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("reader", ["auto", "jpeg2dct"])
def test_read_dct_writes_into_a_batch(mode, reader):
    data = pillow_jpeg(213, 177, mode=mode)
    luma, chroma = np.full((2, 38, 38, 64), 7, np.int16), np.full((2, 19, 19, 128), 7, np.int16)
    result = read_dct(data, requantize=75, out=(luma[1], chroma[1]), reader=reader)
    assert result.image_size == (213, 177)
    expected = resize_planes(read_planes(data), Resize(), requantize=75)
    assert np.mean(luma[1] != expected[0]) < 1e-4  # rounding of float32 sums may differ
    assert np.mean(chroma[1] != expected[1]) < 1e-4
    assert (luma[0] == 7).all()
    assert (chroma[0] == 7).all()
    no_colour = read_dct(data, requantize=75, chroma=False, reader=reader)
    assert no_colour.chroma is None
    np.testing.assert_array_equal(no_colour.luma, luma[1])


@needs_native
def test_buffers_that_do_not_fit():
    data = pillow_jpeg(64, 64)
    for luma in (np.zeros((38, 37, 64), np.int16), np.zeros((38, 38, 64)), np.zeros((38, 38, 128), np.int16)[..., ::2]):
        with pytest.raises(ValueError, match="output"):
            read_dct(data, out=(luma, np.zeros((19, 19, 128), np.int16)))


@pytest.mark.parametrize("crop", [(0, 0, 65, 64), (-1, 0, 8, 8), (0, 0, 0, 8)])
def test_crops_outside_the_image(crop):
    with pytest.raises(ValueError, match="crop"):
        read_dct(pillow_jpeg(64, 64), resize=Resize(crop=crop))


def reencoded(data: bytes) -> list[np.ndarray]:
    """The reference's way: decode, OpenCV's bilinear to 300 x 300 (by torch), Pillow's quality 75, jpeg2dct."""
    import jpeg2dct.numpy
    import torch

    image = torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB"))).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(image.float(), (300, 300), mode="bilinear").round().byte()
    buffer = io.BytesIO()
    Image.fromarray(small[0].permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=75)
    return jpeg2dct.numpy.loads(buffer.getvalue())


def agreement(result, expected) -> tuple[float, float]:
    """Shares of coefficients equal, and within one quantisation step."""
    steps = standard_tables(75)[[0, 1, 1]]
    got = [result.luma, *split(result.chroma)]
    off = np.concatenate([(np.abs(a - b) / s).ravel() for a, b, s in zip(got, expected, steps, strict=True)])
    return np.mean(off == 0), np.mean(off <= 1)


@needs_shared
def test_requantized_equals_reencoded_on_bccd():
    files = sorted(BCCD.glob("*.jpg"))[:: 1 if FULL else 12]
    shares = np.mean([agreement(read_dct(f, requantize=75), reencoded(f.read_bytes())) for f in files], axis=0)
    assert shares[0] >= 0.985
    assert shares[1] >= 0.9999


@pytest.mark.skipif(not (SHARED / "reference/golden").is_dir(), reason="no shared/ beside the repository")
def test_requantized_equals_the_golden_pipeline():
    golden = np.load(SHARED / "reference/golden/voc_pipeline.npz")
    for i, name in enumerate(golden["names"]):
        result = read_dct(BCCD / f"{name}.jpg", requantize=75)
        equal, near = agreement(result, [golden["dct_0"][i], *split(golden["dct_1"][i])])
        assert equal >= 0.985
        assert near == 1.0


def test_integers_survive_every_reader():
    """Random integers, not a picture: nothing in the path relies on neighbours being alike."""
    size, sampling = (45, 70), SAMPLINGS["4:2:0"]
    planes = tuple((plane * 3).astype(np.int16) for plane in random_integers(size, sampling))
    wild = Planes(planes, size, sampling, np.full((3, 64), 3, np.uint16))
    assert_close(wild, Resize((80, 40)), pixel_path.resize(wild, (80, 40)))
