"""Markers, against what Pillow says of the same file."""

import gzip
import io

import pytest
from PIL import Image

from jpegdeep_torch.errors import JpegError
from jpegdeep_torch.jpeg import ReadOptions, check_jpeg, read_dct, read_header, read_planes
from jpegdeep_torch.jpeg.pixels import decode_rgb
from tests.jpeg_samples import BROKEN, KINDS, jpeg, picture


@pytest.mark.parametrize("kind", KINDS)
def test_header_says_what_pillow_says(kind):
    data = jpeg(picture(75, 131), **KINDS[kind])
    header = read_header(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (header.width, header.height) == image.size
        assert header.components == len(image.getbands())
        assert header.progressive == bool(image.info.get("progressive"))
        assert header.sampling == tuple((h, v) for _, h, v, _ in image.layer)
    assert header.precision == 8 and not header.arithmetic


def test_a_marker_in_a_comment_or_behind_the_end_is_none():
    data = jpeg()
    comment = b"\xff\xfe" + (2 + 4).to_bytes(2, "big") + b"\xff\xd9\xff\xd9"
    assert read_header(data[:2] + comment + data[2:] + b"trailing \xff\xc0 bytes") == read_header(data)
    with pytest.raises(JpegError, match="truncated"):  # the end of image inside the comment does not count
        read_header(data[:2] + comment + data[2:-20])


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named_with_a_reason(kind):
    data, reason = BROKEN[kind]
    with pytest.raises(JpegError, match=reason) as caught:
        read_header(data, "some/file.jpg")
    assert str(caught.value).startswith("some/file.jpg: ")


@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "restart intervals"])
def test_every_truncation_that_loses_something_is_noticed(kind):
    data = jpeg(picture(24, 32), **KINDS[kind])
    for length in range(len(data) - 4):
        with pytest.raises(JpegError):
            read_header(data[:length])


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_end_marker_alone_loses_nothing(missing):
    data = jpeg()
    warnings = []
    assert read_header(data[:-missing], warnings=warnings) == read_header(data)
    assert [warning.message for warning in warnings] == ["Premature end of JPEG file"]
    with pytest.raises(JpegError, match="Premature end"):
        read_header(data[:-missing], options=ReadOptions(on_damage="strict"))


def test_the_middle_of_the_data_is_what_check_jpeg_adds():
    data = jpeg()
    damaged = data[: len(data) // 2] + b"\xff\xd9"
    assert read_header(damaged) == read_header(data)
    with pytest.raises(JpegError, match="premature end of data segment"):
        check_jpeg(damaged)
    warnings = []
    assert check_jpeg(damaged, options=ReadOptions(on_damage="tolerate"), warnings=warnings) == read_header(data)
    assert [warning.message for warning in warnings] == ["Corrupt JPEG data: premature end of data segment"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "a PNG image"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "a WebP image"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "an AVI video"),
        (b"GIF89a" + bytes(30), "a GIF image"),
        (b"II*\x00\x08\x00\x00\x00", "a TIFF image"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(12), "a HEIC image"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(12), "an MP4 or QuickTime video"),
        (gzip.compress(b"a JPEG", mtime=0), "compressed by gzip"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        (b"\xef\xbb\xbf\n <!DOCTYPE HTML><title>404</title>", "an HTML page"),
        (bytes(100), "zeros"),
        (b"--frame\r\n\r\n" + jpeg(), "one begins at byte 11"),
        (b"something else", "starts with b'somethin'"),
    ],
)
def test_what_is_no_jpeg_says_what_it_is(data, what):
    for read in (read_header, check_jpeg, read_planes, read_dct, decode_rgb):
        with pytest.raises(JpegError, match="not a JPEG") as caught:
            read(data)
        assert what in str(caught.value) and "\n" not in str(caught.value)


def test_options_that_do_not_exist():
    for options in ({"on_damage": "ignore"}, {"orientation": "upright"}, {"max_memory_mb": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ReadOptions(**options)
