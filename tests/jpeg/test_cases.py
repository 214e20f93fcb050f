"""The files of shared/cases: what its table says, by every reader and decoder, with and without the native part."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from jpegdeep_torch.errors import JpegError, UnsupportedCoding
from jpegdeep_torch.jpeg import ReadOptions, check_jpeg, read_dct, read_header, read_planes
from jpegdeep_torch.jpeg.pixels import DECODERS, decode_rgb
from tests.jpeg import pixel_path
from tests.jpeg.jpeg_files import SHARED
from tests.jpeg.test_reader import needs_native

CASES = SHARED / "cases" / "jpeg"
pytestmark = [needs_native, pytest.mark.skipif(not CASES.is_dir(), reason="no shared/cases beside the repository")]
SIZE = (176, 240)

# The same picture as 000_base.jpg: the mean difference of values, which is the file's own coding's.
SAME = {
    "000_base": 0,
    "adobe_2_three_comp": 0,
    "concat_two_jpegs": 0,
    "dri_but_no_rst": 0,
    "eoi_missing_trailing_zero": 0,
    "exif_orient_1": 0,
    "extraneous_245_before_eoi": 0,
    "extraneous_2_before_dqt": 0,
    "extraneous_8_before_eoi": 0,
    "jfif_v2": 0,
    "no_eoi": 0,
    "rst_after_extraneous_scanner": 0,
    "rst_one_wrong_number": 0,
    "sos_0_0_0_samsung": 0,
    "sos_0_255_0": 0,
    "trailing_mp4_motionphoto": 0,
    "trailing_text": 0,
    "trailing_zeros_4k": 0,
    "rst_one_missing": 1,  # libjpeg leaves out the interval before the restart marker that it does find
    "mjpeg_no_dht": 2,  # 4:2:2
    "prog_duplicate_last_scan": 3,
    "mpo_2_frames": 4,
    "rgb_123_adobe0_no_jfif": 4,
    "rgb_ids_no_adobe": 4,
    "prog_out_of_order": 18,  # its scans were moved without their tables
}
OTHER_SIZES = {"pano_65500x8": (8, 65500), "sampling_441_odd": (101, 139)}
TURNED = {"exif_orient_2": 2, "exif_orient_3": 3, "exif_orient_6": 6, "exif_orient_8": 8}
DECODED = {"cmyk_adobe0": 5, "cmyk_no_adobe": 5, "ycck_adobe2_flag": 76}  # the last is another picture to libjpeg too
DAMAGED = {
    "height_too_big_16": "premature end of data segment",
    "truncated_50": "truncated after 5938 bytes",
    "truncated_50_plus_eoi": "premature end of data segment",
    "zero_filled_tail": "truncated after 11876 bytes",
}
REFUSED = {
    "before_soi_http": "one begins at byte 37",
    "empty": "empty file",
    "gzipped": "compressed by gzip",
    "html_404": "an HTML page",
    "precision_12_sof1": "12 bits per sample",
    "really_a_png": "a PNG image",
    "really_a_webp": "a WebP image",
    "sampling_3x2_": r"sampling factors \(\(3, 2\), \(1, 1\), \(1, 1\)\)",
}
WARNED = {
    "adobe_2_three_comp": "Adobe color transform code",
    "dri_but_no_rst": "restart interval",
    "eoi_missing_trailing_zero": "Premature end",
    "extraneous_245_before_eoi": "242 extraneous bytes",
    "extraneous_2_before_dqt": "2 extraneous bytes",
    "extraneous_8_before_eoi": "5 extraneous bytes",
    "jfif_v2": "JFIF revision number 2.01",
    "no_eoi": "Premature end",
    "prog_duplicate_last_scan": r"Inconsistent progression sequence .* \(63 times\)",
    "prog_out_of_order": "Inconsistent progression sequence",
    "rst_after_extraneous_scanner": r"596 extraneous bytes before marker 0xd0 \(8 times\)",
    "rst_one_missing": "found marker 0xd3 instead of RST2",
    "rst_one_wrong_number": "found marker 0xd5 instead of RST2",
    "sos_0_0_0_samsung": "Invalid SOS parameters",
    "sos_0_255_0": "Invalid SOS parameters",
}
UNSEEN_WITHOUT_NATIVE = {
    name for name in WARNED if name.startswith(("rst_", "prog_", "extraneous_8", "extraneous_245"))
}


def contents(name: str) -> bytes:
    return (CASES / f"{name}.jpg").read_bytes()


def all_cases() -> set[str]:
    return set(SAME) | set(OTHER_SIZES) | set(TURNED) | set(DECODED) | set(DAMAGED) | set(REFUSED)


def test_every_file_is_in_one_of_the_tables():
    assert {path.stem for path in CASES.iterdir()} == all_cases()


@pytest.fixture(params=["native", "no compiler"])
def readers(request, monkeypatch):
    """Every way from bytes to coefficients."""
    if request.param == "no compiler":
        for name, module in list(sys.modules.items()):
            if name.startswith("jpegdeep_torch.jpeg.") and hasattr(module, "native_module"):
                monkeypatch.setattr(module, "native_module", lambda: None)
    return ("auto",) if request.param == "no compiler" else ("native", "jpeg2dct")


def ways(readers) -> list:
    """All that read a whole file, as functions of its bytes and options."""
    found = [check_jpeg]
    for reader in readers:
        found.append(lambda data, reader=reader, **options: read_planes(data, reader=reader, **options))
        found.append(lambda data, reader=reader, **options: read_dct(data, reader=reader, **options))
    for decoder in DECODERS:
        found.append(lambda data, decoder=decoder, **options: decode_rgb(data, decoder=decoder, size=300, **options))
    return found


def luma_pixels(data: bytes, reader: str, size: tuple[int, int], **options) -> np.ndarray:
    luma = read_dct(data, size, reader=reader, **options).luma
    return pixel_path.pixels(luma)[: size[0], : size[1]] + 128


def by_pillow(name: str) -> np.ndarray:
    with Image.open(io.BytesIO(contents(name)), formats=["JPEG", "MPO"]) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def luma_of(pixels: np.ndarray) -> np.ndarray:
    return pixels @ (0.299, 0.587, 0.114)


@pytest.mark.parametrize("name", SAME)
def test_the_same_picture_as_base(name, readers, capfd):
    data, base = contents(name), by_pillow("000_base")
    for decoder in DECODERS:
        pixels = decode_rgb(data, decoder=decoder)
        assert np.abs(pixels.astype(int) - base).mean() <= max(SAME[name], 0.5)
    for reader in readers:
        luma, own = (luma_pixels(file, reader, SIZE) for file in (data, contents("000_base")))
        assert np.abs(luma - own).mean() <= SAME[name]
        assert np.abs(luma - luma_of(pixels)).mean() <= 1  # both paths see one picture
        assert read_dct(data, reader=reader).image_size == SIZE
    assert read_header(data).image_size == SIZE
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", TURNED)
def test_turned_pictures(name, readers):
    data = contents(name)
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == TURNED[name]
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    size = upright.shape[:2]
    assert read_header(data).image_size == size
    for decoder in DECODERS:
        assert np.abs(decode_rgb(data, decoder=decoder) - upright).max() <= 3
    for reader in readers:
        assert read_dct(data, reader=reader).image_size == size
        assert np.abs(luma_pixels(data, reader, size) - luma_of(upright)).mean() < 1
        stored = luma_pixels(data, reader, SIZE, options=ReadOptions(orientation="stored"))
        assert np.abs(stored - luma_of(by_pillow("000_base"))).mean() < 1


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_unusual_sizes_and_samplings_are_read(name, readers):
    size, data = OTHER_SIZES[name], contents(name)
    expected = luma_of(by_pillow(name))
    assert check_jpeg(data).image_size == size
    for decoder in DECODERS:
        assert np.abs(luma_of(decode_rgb(data, decoder=decoder)) - expected).max() <= 3
    if size[1] < 1000:  # not 65,500 x 65,500 matrix products of PyTorch's
        for reader in readers:
            assert np.abs(luma_pixels(data, reader, size) - expected).mean() < 1.5
    elif "native" in readers:
        small = read_dct(data, (8, 4096), antialias=True).luma
        assert abs(pixel_path.pixels(small).mean() + 128 - expected.mean()) < 1


@pytest.mark.parametrize("name", DECODED)
def test_what_only_a_decoder_brings_to_ycbcr(name, readers):
    data = contents(name)
    for reader in readers:
        for read in (read_dct, read_planes):
            with pytest.raises(UnsupportedCoding, match="pixels have to be decoded"):
                read(data, reader=reader)
    for decoder in DECODERS:
        assert np.abs(decode_rgb(data, decoder=decoder).astype(int) - by_pillow("000_base")).mean() <= DECODED[name]
    for read in ways(readers):
        with pytest.raises(JpegError, match="strict") as caught:
            read(data, options=ReadOptions(on_damage="strict"))
        assert not isinstance(caught.value, UnsupportedCoding)


@pytest.mark.parametrize("name", DAMAGED)
def test_missing_parts_are_an_error_unless_tolerated(name, readers, monkeypatch, capfd):
    data = contents(name)
    for read in ways(readers):
        for on_damage in ("error", "strict"):
            with pytest.raises(JpegError, match=DAMAGED[name] if on_damage == "error" else None):
                read(data, options=ReadOptions(on_damage=on_damage))
        warnings = []
        read(data, options=ReadOptions(on_damage="tolerate"), warnings=warnings)
        assert any("premature end of data segment" in warning.message for warning in warnings)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    expected = by_pillow(name)
    tolerant = ReadOptions(on_damage="tolerate")
    for decoder in DECODERS:
        assert np.abs(decode_rgb(data, decoder=decoder, options=tolerant).astype(int) - expected).mean() < 0.5
    for reader in readers:
        luma = luma_pixels(data, reader, expected.shape[:2], options=tolerant)
        assert np.abs(luma - luma_of(expected)).mean() < 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_names_file_and_reason(name, readers, tmp_path):
    data = contents(name)
    for read in ways(readers):
        for on_damage in ("error", "strict", "tolerate"):
            with pytest.raises(JpegError, match=REFUSED[name]) as caught:
                read(data, options=ReadOptions(on_damage=on_damage))
            assert "\n" not in str(caught.value) and ".cpp" not in str(caught.value)
    with pytest.raises(JpegError, match=REFUSED[name]) as caught:
        read_dct(CASES / f"{name}.jpg")
    assert str(caught.value).startswith(str(CASES / f"{name}.jpg"))


@pytest.mark.parametrize("name", sorted(WARNED))
def test_warnings_are_kept_and_strict_reading_refuses_them(name, readers, capfd):
    if "native" not in readers and name in UNSEEN_WITHOUT_NATIVE:
        pytest.skip("seen by a native decoder only")
    for read in ways(readers):
        found = []
        read(contents(name), warnings=found)
        assert [warning for warning in found if re.search(WARNED[name], str(warning))]
        with pytest.raises(JpegError):
            read(contents(name), options=ReadOptions(on_damage="strict"))
    assert capfd.readouterr() == ("", "")


def test_warnings_of_a_kind_are_counted_together():
    found = []
    for name in ("extraneous_2_before_dqt", "extraneous_8_before_eoi", "extraneous_245_before_eoi"):
        check_jpeg(contents(name), warnings=found)
    assert {warning.kind for warning in found} == {"Corrupt JPEG data: # extraneous bytes before marker #"}


def test_sound_files_have_no_warnings(readers):
    for name in ("000_base", "mjpeg_no_dht", "trailing_text", "exif_orient_6"):
        for read in ways(readers):
            found = []
            read(contents(name), options=ReadOptions(on_damage="strict"), warnings=found)
            assert not found
