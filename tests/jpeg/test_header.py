"""Markers, against what Pillow says of the same file."""

import io

import pytest
from PIL import Image

from jpegdeep_torch.errors import JpegError
from jpegdeep_torch.jpeg.header import read_header
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
        read_header(data[:2] + comment + data[2:-2])


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named_with_a_reason(kind):
    data, reason = BROKEN[kind]
    with pytest.raises(JpegError, match=reason) as caught:
        read_header(data, "some/file.jpg")
    assert str(caught.value).startswith("some/file.jpg: ")


def test_every_truncation_is_noticed():
    data = jpeg(picture(24, 32))
    for length in range(len(data) - 1):
        with pytest.raises(JpegError):
            read_header(data[:length])
