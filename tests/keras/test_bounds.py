"""What a file may make the converter read and print: bounded, whatever the file says."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main
from jpegdeep_torch.errors import CheckpointError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.report import listing
from jpegdeep_torch.utils.messages import listed, shown
from tests.keras.files import write
from tests.keras.tables import network

SMALL = 1 / 32
pytestmark = pytest.mark.slow  # two to three minutes together
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(NAME) -> the path of a small network's file, whose attributes may be large."""

    def make(name: str = "ssd300_vgg16_dct_y") -> Path:
        path = tmp_path / "a.h5"
        write(tmp_path / "small.h5", network(name, SMALL, classes=2))
        with h5py.File(tmp_path / "small.h5") as small, h5py.File(path, "w", libver="latest") as file:
            for layer in small:
                small.copy(layer, file)
            for key, value in small.attrs.items():
                file.attrs[key] = value
        (tmp_path / "small.h5").unlink()
        return path

    return make


_MEASURE = """
import resource, sys, time
from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
status = run_command(main, sys.argv[1:])
print(status, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.perf_counter() - started)
"""


def refused_cheaply(path: Path, expected: str, *arguments: str) -> None:
    """One short line, in little time and memory."""
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, path, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert len(run.stderr) < 10_000 and run.stderr.count("\n") == 1 and expected in run.stderr
    status, more_mib, seconds = map(float, run.stdout.split())
    assert status == 2 and more_mib < 1024 and seconds < 20


@pytest.mark.parametrize("kind", ["fixed", "variable", "array"])
def test_a_version_of_many_megabytes(kind, checkpoint):
    path = checkpoint()
    with h5py.File(path, "r+", libver="latest") as file:
        del file.attrs["keras_version"]
        if kind == "fixed":
            file.attrs["keras_version"] = np.bytes_(b"9" * (60 << 20))
        elif kind == "variable":
            file.attrs["keras_version"] = "9" * (60 << 20)
        else:
            file.attrs["keras_version"] = np.full(3_000_000, b"2.2.4")
    refused_cheaply(path, "attribute keras_version cannot be read")


def test_millions_of_layer_names(checkpoint):
    path = checkpoint()
    with h5py.File(path, "r+", libver="latest") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names"] = np.full(5_000_000, b"conv1_1")
    refused_cheaply(path, "attribute layer_names cannot be read (ValueError: 5,000,000 entries")


def test_a_configuration_of_many_megabytes(checkpoint):
    path = checkpoint()
    with h5py.File(path, "r+", libver="latest") as file:
        file.attrs["model_config"] = np.bytes_(b'{"a": "' + b"a" * (40 << 20) + b'"}')
    refused_cheaply(path, "attribute model_config")


def test_thousands_of_groups(checkpoint):
    path = checkpoint()
    with h5py.File(path, "r+", libver="latest") as file:
        for i in range(3000):
            file.create_group(f"layer_{i}").create_dataset("kernel:0", data=np.zeros((2, 2), np.float32))
    refused_cheaply(path, "and 2,980 more")


def test_a_hollow_file_that_claims_a_wide_network(tmp_path):
    """Chunks that were never written take no room: 16 times the width of a VGG-16 in a few kilobytes."""
    path = tmp_path / "a.h5"
    net = network("vgg16", 16)
    with h5py.File(path, "w") as file:
        for layer in net.layers:
            for kind, shape in layer.weights:
                chunks = tuple(min(side, 64) for side in shape)
                file.create_dataset(f"{layer.name}/{layer.name}/{kind}:0", shape, "f4", chunks=chunks)
    refused_cheaply(path, "bytes of weights, of which the file holds")


def test_wide_layers_without_a_top_start_no_giant(tmp_path):
    """What a file does not give starts at fresh values; not where that is a thousand times what it gives."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in ("block5_conv1", "block5_conv2", "block5_conv3"):
            file[f"{name}/{name}/bias:0"] = np.zeros(512 * 16, np.float32)
    refused_cheaply(path, "16 times the width", "--to", "ssd300_vgg16")


def test_at_most_twenty_things_are_listed(checkpoint):
    path = checkpoint()
    with h5py.File(path, "r+") as file:
        for i in range(300):
            file[f"layer_{i}/kernel:0"] = np.zeros((2, 2), np.float32)
    with pytest.raises(CheckpointError) as caught:
        convert_keras(path)
    assert str(caught.value).count("unexpected: ") <= 20 and "and 28" in str(caught.value)
    assert listed(range(25), ", ") == ", ".join(map(str, range(20))) + ", and 5 more"
    assert listed("ab", ", ") == "a, b"


def test_control_characters_are_shown_escaped(checkpoint, capsys):
    path = checkpoint()
    name = "evil\x1b[31m\r\nroot# \u202e"
    with h5py.File(path, "r+") as file:
        file[f"{name}/kernel:0"] = np.zeros((2, 2), np.float32)
        file["soft"] = h5py.SoftLink("/somewhere\x07")
        file.attrs["keras_version"] = "2.2.4\x1b]0;title\x07"
    assert run_command(main, [str(path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.rstrip("\n").isprintable()
    assert "evil\\x1b[31m" in message
    assert all(line.isprintable() for line in listing(path).split("\n"))
    assert shown("a\tb") == "a\\tb" and shown("\udcff") == "\\udcff" and len(shown("x" * 1000)) < 250


def test_nothing_large_is_read_for_a_listing(checkpoint):
    path = checkpoint()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "nearest network: ssd300_vgg16_dct_y" in listing(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 200_000
