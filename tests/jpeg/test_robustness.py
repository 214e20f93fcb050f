"""The scripts beside this file, on a share of what they are for; JPEGDEEP_FULL=1 runs the whole."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jpegdeep_torch.errors import JpegError
from jpegdeep_torch.jpeg import markers
from jpegdeep_torch.jpeg.header import open_jpeg
from jpegdeep_torch.jpeg.options import DEFAULT_OPTIONS
from tests.jpeg.fuzz import damage, seeds
from tests.jpeg.test_reader import needs_native

FULL = bool(os.environ.get("JPEGDEEP_FULL"))
pytestmark = [needs_native, pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")]


def run(script: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"tests.{script}", *arguments]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_damaged_files_give_planes_or_an_error():
    run("jpeg.fuzz", "--cases", "10000" if FULL else "600")


@pytest.mark.slow
def test_networks_on_pixels_and_on_coefficients_read_the_same_damaged_files():
    run("data.fuzz", "--cases", "10000" if FULL else "300")


@pytest.mark.slow
def test_every_way_of_the_native_part_agrees_on_damaged_files():
    run("jpeg.sanitize", "--cases", "20000" if FULL else "600")


@pytest.mark.slow
def test_memory_stays_flat_on_eight_threads():
    run("jpeg.soak", "--files", "10000" if FULL else "1500")


def test_both_huffman_decoders_read_the_same():
    """Whatever ours takes, libjpeg reads as the same numbers and without a warning."""
    from jpegdeep_torch.jpeg import _native

    files, taken, headers = seeds(), 0, 0
    cases = [damage(np.random.default_rng([7, case]), files) for case in range(1500)]
    for data in files + cases:
        header, results = markers._ordinary_header(data, DEFAULT_OPTIONS), []
        if header is not None:  # it says what Python reads of the same markers
            headers += 1
            expected = markers._any_header(data, "<bytes>", DEFAULT_OPTIONS)
            assert (header, header.scan_start) == (expected, expected.scan_start) and not expected.unusual
        for fast in (True, False):
            try:
                results.append(_native.File(open_jpeg(data).data, "strict", fast).read())
            except (_native.DecodeError, JpegError) as error:
                results.append(str(error))
        assert isinstance(results[0], str) == isinstance(results[1], str)
        if isinstance(results[0], str):
            assert results[0] == results[1]
            continue
        taken += 1
        np.testing.assert_array_equal(results[0][1], results[1][1])
        for a, b in zip(results[0][0], results[1][0], strict=True):
            np.testing.assert_array_equal(a, b)
    assert taken > len(files) and headers > 500
