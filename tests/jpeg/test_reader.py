import io
import pickle
import warnings

import jpeg2dct.numpy
import numpy as np
import pytest
from PIL import Image

from jpegdeep_torch.errors import JpegError, UnsupportedCoding
from jpegdeep_torch.jpeg import ReadOptions, check_jpeg, read_dct, read_header, read_many, read_planes
from jpegdeep_torch.jpeg.native import native_module
from jpegdeep_torch.jpeg.pixels import decode_rgb
from tests.jpeg import pixel_path
from tests.jpeg.jpeg_files import (
    BCCD,
    SAMPLINGS,
    grids,
    needs_shared,
    picture,
    pillow_jpeg,
    random_integers,
    write_jpeg,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    NATIVE = native_module() is not None
needs_native = pytest.mark.skipif(not NATIVE, reason="the native reader was not built")
pytestmark = needs_native
TOLERANT = ReadOptions(on_damage="tolerate")

SIZES = [(1, 1), (8, 8), (9, 17), (16, 16), (33, 8), (40, 24), (100, 75), (301, 299), (480, 640)]


def assert_same_as_jpeg2dct(data: bytes) -> None:
    planes = read_planes(data, reader="native")
    bands = jpeg2dct.numpy.loads(data, channels=3 if len(planes.coefficients) == 3 else 1)
    for plane, band in zip(planes.coefficients, bands, strict=True):
        assert plane.dtype == band.dtype == np.int16
        np.testing.assert_array_equal(plane, band)


@needs_shared
def test_every_bccd_file_is_what_jpeg2dct_reads():
    files = sorted(BCCD.glob("*.jpg"))
    assert len(files) == 364
    for file in files:
        assert_same_as_jpeg2dct(file.read_bytes())


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 98}, {"quality": 20, "optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}],
)
def test_420_and_gray_are_what_jpeg2dct_reads(mode, size, options):
    assert_same_as_jpeg2dct(pillow_jpeg(*size, mode=mode, **options))


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (33, 70), (64, 64)])
def test_every_sampling_is_integers_times_steps(sampling, size):
    rng = np.random.default_rng(1)
    tables = rng.integers(1, 40, (len(sampling), 64))
    integers = random_integers(size, sampling, seed=2)
    data = write_jpeg(integers, size, sampling, tables)
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # an independent decoder takes the file, and says what its tables are
        assert image.size == size[::-1]
        steps = [image.quantization[table] for *_, table in image.layer]
    planes = read_planes(data)
    assert planes.image_size == size
    assert planes.sampling == sampling
    np.testing.assert_array_equal(planes.quantization, steps)
    assert [plane.shape[:2] for plane in planes.coefficients] == grids(size, sampling)
    for plane, integer, step in zip(planes.coefficients, integers, steps):
        np.testing.assert_array_equal(plane, integer * step)


@pytest.mark.parametrize("interval", [1, 3, 7])
def test_restart_markers(interval):
    size, sampling = (40, 56), SAMPLINGS["4:2:0"]
    integers = random_integers(size, sampling)
    planes = read_planes(write_jpeg(integers, size, sampling, np.ones((3, 64)), interval))
    for plane, integer in zip(planes.coefficients, integers):
        np.testing.assert_array_equal(plane, integer)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_progressive_equals_its_own_pixels(subsampling):
    """Both ways of holding the blocks, row by row and whole, read what Pillow decodes to the same picture."""
    baseline = pillow_jpeg(90, 131, subsampling=subsampling)
    progressive = pillow_jpeg(90, 131, subsampling=subsampling, progressive=True)
    for a, b in zip(read_planes(baseline).coefficients, read_planes(progressive).coefficients):
        np.testing.assert_array_equal(a, b)


def test_read_many_keeps_the_order(tmp_path):
    sizes = [(8 * i, 16) for i in range(1, 20)]
    files = []
    for size in sizes:
        files.append(tmp_path / f"{size[0]}.jpg")
        files[-1].write_bytes(pillow_jpeg(*size))
    assert [planes.image_size for planes in read_many(files, threads=4)] == sizes


def _cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(16, 16)).convert("CMYK").save(buffer, "JPEG")
    return buffer.getvalue()


def _rgb_components() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(16, 16)).save(buffer, "JPEG", keep_rgb=True)
    return buffer.getvalue()


def _twelve_bits() -> bytes:
    data = bytearray(pillow_jpeg(16, 16))
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"GIF89a and more", "not a JPEG"),
        (b"\xff\xd8\xff\xd9", "no image|SOI|SOS|EOI|image"),
        (_cmyk(), "CMYK"),
        (_twelve_bits(), "precision|bits"),
        (pillow_jpeg(64, 64)[:-20], "[Pp]remature"),
        (pillow_jpeg(64, 64)[:900], "[Pp]remature"),
        (pillow_jpeg(64, 64)[:100], "truncated"),
    ],
)
def test_refused_with_a_reason(data, reason):
    for read in (read_planes, read_dct):
        with pytest.raises(JpegError, match=reason) as caught:
            read(data)
        assert caught.value.name == "<bytes>"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_errors_name_the_file(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not one")
    for path in (bad, tmp_path / "missing.jpg"):
        with pytest.raises(JpegError, match=path.name):
            read_planes(path)


def test_warnings_can_be_tolerated():
    whole = read_planes(pillow_jpeg(128, 128, quality=90))
    cut = read_planes(pillow_jpeg(128, 128, quality=90)[:4000], options=TOLERANT)
    assert cut.image_size == whole.image_size
    np.testing.assert_array_equal(cut.coefficients[0][:2], whole.coefficients[0][:2])
    assert not np.array_equal(cut.coefficients[0], whole.coefficients[0])


READERS = (read_planes, read_dct, decode_rgb, read_header, check_jpeg)


@pytest.mark.parametrize("read", READERS)
def test_memory_is_limited_before_anything_is_allocated(read):
    data = bytearray(pillow_jpeg(16, 16))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(JpegError, match="65500 x 65500 pixels"):
        read(bytes(data))
    rgb = 3 * 16 * 16
    with pytest.raises(JpegError, match=r"limit of 0\.0007"):
        read(pillow_jpeg(16, 16), options=ReadOptions(max_memory_mb=(rgb - 1) / 1e6))
    read(pillow_jpeg(16, 16), options=ReadOptions(max_memory_mb=rgb / 1e6))
    coefficients = 6 * 64 * 2  # of a macroblock of 4:2:0; a progressive file's are held whole
    progressive = pillow_jpeg(16, 16, progressive=True)
    with pytest.raises(JpegError, match="in several scans"):
        read(progressive, options=ReadOptions(max_memory_mb=(rgb + coefficients - 1) / 1e6))
    read(progressive, options=ReadOptions(max_memory_mb=(rgb + coefficients) / 1e6))


@pytest.mark.parametrize("read", READERS)
def test_what_a_few_bytes_promise_is_not_believed(read):
    data = bytearray(pillow_jpeg(16, 16, mode="L"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (40_000).to_bytes(2, "big") * 2
    for limit in (650.0, 1e9):
        for on_damage in ("error", "tolerate"):
            with pytest.raises(JpegError, match="40000 x 40000 pixels"):
                read(bytes(data), options=ReadOptions(max_memory_mb=limit, on_damage=on_damage))


def test_rgb_components_become_ycbcr():
    """Exactly: each coefficient is JFIF's sum of the file's own."""
    pixels = picture(45, 70)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", keep_rgb=True, subsampling=0, quality=90)
    rgb_file = buffer.getvalue()
    start = rgb_file.index(b"\xff\xee")  # the Adobe marker says RGB; without it, and other ids, the same are Y, Cb, Cr
    end = start + 2 + int.from_bytes(rgb_file[start + 2 : start + 4], "big")
    plain = bytearray(rgb_file[:start] + rgb_file[end:])
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        at = plain.index(marker)
        for i in range(3):
            plain[at + first + step * i] = i + 1
    r, g, b = (plane.astype(np.float64) for plane in read_planes(bytes(plain)).coefficients)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    planes = read_planes(rgb_file)
    for plane, expected in zip(planes.coefficients, (y, (b - y) / 1.772, (r - y) / 1.402), strict=True):
        np.testing.assert_allclose(plane, expected, atol=1e-3)
    assert planes.sampling == ((1, 1),) * 3
    assert np.std(planes.coefficients[2]) > 1
    # And as pixels: Pillow's, brought to YCbCr by Pillow and transformed here.
    ycc = np.asarray(Image.open(io.BytesIO(rgb_file)).convert("YCbCr"), np.float64)[:40, :64] - 128
    for c, plane in enumerate(planes.coefficients):
        np.testing.assert_allclose(pixel_path.pixels(plane[:5, :8]), ycc[..., c], atol=3)


def test_rgb_of_unequal_sampling_needs_a_decoder():
    data = bytearray(_rgb_components())
    at = data.index(b"\xff\xc0")
    data[at + 11] = 0x21
    for read in (read_planes, read_dct):
        with pytest.raises(UnsupportedCoding, match="unequal sampling"):
            read(bytes(data))
        with pytest.raises(UnsupportedCoding, match="CMYK") as caught:
            read(_cmyk())
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), UnsupportedCoding)
        with pytest.raises(JpegError, match="strict") as caught:
            read(_cmyk(), options=ReadOptions(on_damage="strict"))
        assert not isinstance(caught.value, UnsupportedCoding)


def test_scan_bombs_are_refused():
    """A progressive file whose last scan comes again and again."""
    data = pillow_jpeg(64, 64, mode="L", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(JpegError):
        read_planes(data[:-2] + scan * 2000 + b"\xff\xd9", options=TOLERANT)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_readers_agree(mode, tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(pillow_jpeg(75, 100, mode=mode))
    a, b = (read_planes(file, reader=reader) for reader in ("native", "jpeg2dct"))
    assert (a.image_size, a.sampling) == (b.image_size, b.sampling)
    np.testing.assert_array_equal(a.quantization, b.quantization)
    for x, y in zip(a.coefficients, b.coefficients, strict=True):
        np.testing.assert_array_equal(x, y)


def test_unknown_reader():
    with pytest.raises(ValueError, match="libfoo"):
        read_planes(pillow_jpeg(8, 8), reader="libfoo")
