"""What a file is that is no JPEG, from how it begins."""

from __future__ import annotations

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with 'git lfs pull'"),
)
_RIFF = {b"WEBP": "a WebP image", b"AVI ": "an AVI video"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}
_MARKUP = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG image"),
    (b"<?xml", "XML"),
)
_SEARCHED_BYTES = 1 << 16


def describe_non_jpeg(data: bytes) -> str:
    """What bytes that do not start with FF D8 are: the rest of a line that begins with a file's name."""
    if not data:
        return "empty file, expected a JPEG"
    what = _kind(data)
    if what:
        return f"not a JPEG, but {what}"
    start = data.find(b"\xff\xd8\xff", 0, _SEARCHED_BYTES)
    if start > 0:
        return f"not a JPEG, but one begins at byte {start} (the file starts with {data[:8]!r})"
    if not any(data[:_SEARCHED_BYTES]):
        return "not a JPEG, but zeros"
    return f"not a JPEG (starts with {data[:8]!r}, expected b'\\xff\\xd8')"


def _kind(data: bytes) -> str | None:
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            return what
    if data[:4] == b"RIFF" and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "an AVIF image"
        return "a HEIC image" if brand in _HEIF_BRANDS else "an MP4 or QuickTime video"
    text = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for start, what in _MARKUP if text.startswith(start)), None)
