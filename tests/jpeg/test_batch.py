"""Many files in one call, and one file on several threads: the numbers, errors and warnings of one after the other."""

import io

import numpy as np
import pytest
from PIL import Image

from jpegdeep_torch.errors import JpegError, UnsupportedCoding
from jpegdeep_torch.jpeg import ReadOptions, Resize, read_dct, read_dct_batch, read_planes
from tests.jpeg.jpeg_files import SAMPLINGS, picture, pillow_jpeg, random_integers, write_jpeg
from tests.jpeg.test_reader import needs_native

pytestmark = needs_native


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture(61, 90)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def saved(mode: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(40, 50)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


WHOLE = pillow_jpeg(120, 160, quality=90)
FILES = [
    pillow_jpeg(97, 130), pillow_jpeg(80, 80, mode="L"), pillow_jpeg(120, 90, progressive=True), turned(6),
    pillow_jpeg(90, 99, restart_marker_blocks=3), saved("RGB", keep_rgb=True), WHOLE[:-2] + b"\x00\x00\xff\xd9",
]  # fmt: skip
BROKEN = [b"", b"GIF89a", WHOLE[:700], WHOLE[:3000], saved("CMYK")]


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_a_batch_is_its_files(threads):
    sources = [part for pair in zip(FILES, [*BROKEN, FILES[0], FILES[1]]) for part in pair]
    batch = read_dct_batch(sources, 120, threads=threads)
    for i, source in enumerate(sources):
        found = []
        try:
            expected = read_dct(source, 120, warnings=found)
        except JpegError as error:
            assert type(batch.errors[i]) is type(error) and batch.errors[i].reason == error.reason
            assert batch.errors[i].name == f"<bytes {i}>"
            assert not batch.luma[i].any() and not batch.chroma[i].any() and not batch.image_sizes[i].any()
            continue
        assert i not in batch.errors and batch.warnings.get(i, []) == found
        assert tuple(batch.image_sizes[i]) == expected.image_size
        np.testing.assert_array_equal(batch.luma[i], expected.luma)
        np.testing.assert_array_equal(batch.chroma[i], expected.chroma)
    assert len(batch.errors) == len(BROKEN) and batch.warnings
    assert isinstance(batch.errors[9], UnsupportedCoding)


def test_one_resize_for_each_into_buffers_of_ones_own(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path, data in zip(paths, FILES):
        path.write_bytes(data)
    resizes = [Resize((64, 64), crop=(i, 2 * i, 40, 50), flip_horizontal=i == 1) for i in range(3)]
    luma = np.full((3, 8, 8, 64), 7, np.float32)
    batch = read_dct_batch([*paths[:2], tmp_path / "missing.jpg"], resize=resizes, out=(luma, None), threads=2)
    assert batch.luma is luma and batch.chroma is None
    for i in range(2):
        out = np.empty((8, 8, 64), np.float32), None
        np.testing.assert_array_equal(luma[i], read_dct(paths[i], resize=resizes[i], out=out, chroma=False).luma)
    assert str(tmp_path / "missing.jpg") in str(batch.errors[2])


def test_without_files_and_by_the_other_reader():
    assert read_dct_batch([]).luma.shape == (0, 38, 38, 64)
    by_both = [read_dct_batch([FILES[0], b"", FILES[1]], reader=reader) for reader in ("native", "jpeg2dct")]
    assert list(by_both[0].errors) == list(by_both[1].errors) == [1]
    assert np.abs(by_both[0].luma.astype(int) - by_both[1].luma).max() <= 1


def test_what_is_the_callers_mistake_is_raised():
    with pytest.raises(ValueError, match="2 files want"):
        read_dct_batch(FILES[:2], resize=[Resize()])
    with pytest.raises(ValueError, match="for 1 files"):
        read_dct_batch(FILES[:2], 64, out=(np.empty((1, 8, 8, 64), np.int16), None))
    with pytest.raises(ValueError, match="crop"):
        read_dct_batch(FILES, resize=Resize(crop=(0, 0, 1000, 1000)), threads=2)
    with pytest.raises(JpegError, match=r"cut short|truncated"):
        raise read_dct_batch([BROKEN[2]], options=ReadOptions(on_damage="strict")).errors[0]


RESIZES = [
    Resize((64, 64)), Resize((200, 330)), Resize((300, 300), crop=(33, 10, 80, 70)), Resize((33, 500), antialias=True),
    Resize((128, 128), place=(40, 20, 50, 60), fill=(10, 128, 90)), Resize((96, 64), flip_vertical=True),
    Resize((8, 8), crop=(0, 0, 9, 9)),
]  # fmt: skip


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("interval", [1, 5, 8, 24])
def test_threads_for_one_file_read_the_same(sampling, interval):
    size = (150, 121)
    data = write_jpeg(random_integers(size, sampling), size, sampling, np.full((len(sampling), 64), 3), interval)
    one = read_planes(data)
    for threads in (2, 3, 50):
        for a, b in zip(one.coefficients, read_planes(data, threads=threads).coefficients, strict=True):
            np.testing.assert_array_equal(a, b)
    for resize in RESIZES:
        expected = read_dct(data, resize=resize)
        got = read_dct(data, resize=resize, threads=3)
        np.testing.assert_array_equal(got.luma, expected.luma)
        np.testing.assert_array_equal(got.chroma, expected.chroma)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_threads_for_a_turned_file(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture(150, 101)).save(buffer, "JPEG", exif=exif, restart_marker_rows=1)
    for size in (64, 300):
        for a, b in zip(read_dct(buffer.getvalue(), size)[:2], read_dct(buffer.getvalue(), size, threads=3)[:2]):
            np.testing.assert_array_equal(a, b)


def test_damage_is_found_by_any_thread():
    data = pillow_jpeg(400, 100, restart_marker_rows=1, quality=95)
    markers = [i for i in range(600, len(data)) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    for at in (markers[0], markers[len(markers) // 2], markers[-1]):
        hurt = data[: at - 4] + data[at:]
        messages = []
        for threads in (1, 3):
            with pytest.raises(JpegError) as caught:
                read_dct(hurt, threads=threads, options=ReadOptions(on_damage="strict"))
            messages.append(str(caught.value))
            tolerant = ReadOptions(on_damage="tolerate")
            got = read_dct(hurt, threads=threads, options=tolerant).luma
            np.testing.assert_array_equal(got, read_dct(hurt, options=tolerant).luma)
        assert messages[0] == messages[1]


def test_threads_that_come_too_late_do_no_harm():
    """More threads than files: most of them first run when all has been done, perhaps even after the call."""
    expected = read_dct(FILES[0], 64)
    for count in (0, 1, 2, 3) * 50:
        sources = [FILES[0], BROKEN[3], FILES[0]][:count]
        batch = read_dct_batch(sources, 64, threads=6)
        assert list(batch.errors) == [1][: max(0, count - 1)]
        for i in set(range(count)) - {1}:
            np.testing.assert_array_equal(batch.luma[i], expected.luma)
