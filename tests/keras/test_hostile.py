"""Files that are damaged or mean ill: a CheckpointError that says what is wrong, and no output file."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from jpegdeep_torch.cli.convert import main
from jpegdeep_torch.errors import CheckpointError, JpegDeepError
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.heaps import endless_heap
from tests.keras.files import Dialect, torch_layout, write
from tests.keras.samples import model_config
from tests.keras.tables import network

SMALL = 1 / 32
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkpoint(tmp_path):
    """A small detector's file, and its path."""
    write(tmp_path / "a.h5", network("ssd300_vgg16_dct_y", SMALL, classes=2))
    return tmp_path / "a.h5"


def refused(path: Path, *expected: str) -> None:
    """Converting fails, says why, and leaves nothing behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(CheckpointError) as caught:
        convert_keras(path)
    for part in (str(path), *expected):
        assert part in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_not_a_checkpoint(tmp_path):
    refused(tmp_path / "missing.h5", "no such file")
    refused(tmp_path, "is a folder")
    for name, data in (("empty.h5", b""), ("text.h5", b"not a model"), ("zip.h5", b"PK\x03\x04" + bytes(50))):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "not an HDF5 file")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["table/values"] = np.arange(5.0)
    refused(tmp_path / "other.h5", "no network of jpeg_deep or ssd_keras", "table")
    h5py.File(tmp_path / "none.h5", "w").close()
    refused(tmp_path / "none.h5", "holds no weights")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated(checkpoint, share):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * share)])
    refused(checkpoint)


def test_values_that_no_network_has(checkpoint):
    with h5py.File(checkpoint, "r+") as file:
        file["fc6/fc6/kernel:0"][0, 0, 0, :3] = np.nan
        file["fc7/fc7/bias:0"][2] = -np.inf
        file["b_norm_64/b_norm_64/moving_variance:0"][1] = -1
    refused(
        checkpoint, "fc6/fc6/kernel:0: 3 of its values are not finite", "fc7/fc7/bias:0: 1 of its", "negative variance"
    )


def test_links_are_not_followed(checkpoint, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.zeros((1, 1, 32, 32), np.float32)
    with h5py.File(checkpoint, "r+") as file:
        del file["fc7/fc7/kernel:0"], file["fc6/fc6/bias:0"], file["fc7/fc7/bias:0"]
        file["fc7/fc7/kernel:0"] = h5py.ExternalLink("secret.h5", "/kernel")
        file["fc7/fc7/bias:0"] = h5py.SoftLink("/conv6_1/conv6_1/bias:0")
        file.create_dataset("fc6/fc6/bias:0", (32,), "f4", external=[("secret.h5", 0, 128)])
        file["loop"] = h5py.SoftLink("/")
        file["again"] = file["/"]
    refused(checkpoint, "an external link to 'secret.h5'", "a soft link", "lie in another file", "missing: fc7/kernel")


def test_absurd_sizes_and_types(checkpoint):
    with h5py.File(checkpoint, "r+") as file:
        for name in ("fc6/fc6/kernel:0", "fc7/fc7/kernel:0", "fc7/fc7/bias:0", "conv6_1/conv6_1/bias:0"):
            del file[name]
        file.create_dataset("fc6/fc6/kernel:0", (1 << 40, 1 << 10), "f4", chunks=(64, 64))  # 4 PiB, 1 KiB on disk
        file["fc7/fc7/kernel:0"] = np.zeros((1, 1, 32, 32), np.int64)
        file["fc7/fc7/bias:0"] = np.array([b"text"])
        file["conv6_1/conv6_1/bias:0"] = h5py.Empty("f4")
    refused(checkpoint, "fc6/kernel: shape (1099511627776, 1024)", "dtype int64", "fc7/bias", "conv6_1/bias")


def test_lists_that_lie(checkpoint):
    with h5py.File(checkpoint, "r+") as file:
        file.attrs["layer_names"] = np.array([b"fc6", b"ghost"])
        file["fc6"].attrs["weight_names"] = np.array([b"fc6/kernel:0", b"fc6/phantom:0"])
    refused(checkpoint, "ghost: listed in layer_names but not in the file", "fc6/fc6/phantom:0: listed in weight_names")


def test_channels_first_is_refused_by_name(tmp_path):
    net = network("ssd_keras_ssd300", SMALL)
    write(tmp_path / "a.h5", net, Dialect(whole=True))
    config = model_config(net)
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Conv2D":
            layer["config"]["data_format"] = "channels_first"
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    refused(tmp_path / "a.h5", "conv1_1: data_format channels_first, expected channels_last")


@pytest.mark.parametrize("text", [b"{not json", b"[1, 2]", b"\xff\xfe", b"[" * 60_000])
def test_model_config_that_is_not_one(tmp_path, text):
    write(tmp_path / "a.h5", network("vgg16_dct_y", SMALL), Dialect(whole=True))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file.attrs["model_config"]
        file.attrs.create("model_config", np.void(text) if len(text) > 50_000 else text)
    refused(tmp_path / "a.h5", "model_config")


def test_model_config_that_contradicts_the_weights(tmp_path):
    net = network("ssd300_vgg16_dct_y", SMALL)
    write(tmp_path / "a.h5", net, Dialect(whole=True))
    config = model_config(net)
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["epsilon"] = float("nan")
        if layer["class_name"] == "AnchorBoxes":
            layer["config"]["this_offsets"] = 0.25
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    refused(tmp_path / "a.h5", "b_norm_64: epsilon nan, expected one in (0, 1]", "this_offsets 0.25, expected 0.5")


def test_marshalled_python_never_runs(tmp_path):
    """ssd_keras's files carry code; here it would leave a trace."""
    trace = tmp_path / "trace"
    code = marshal.dumps(compile(f"open({str(trace)!r}, 'w').close()", "x", "exec")).hex()
    net = network("ssd_keras_ssd300", SMALL)
    write(tmp_path / "a.h5", net, Dialect(whole=True))
    config = model_config(net)
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Lambda":
            layer["config"]["function"][0] = code
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    assert convert_keras(tmp_path / "a.h5").info.preset == "ssd_keras"
    assert not trace.exists()


def test_optimizer_state_is_not_read(tmp_path):
    """It could not be: its values lie in a file that is not there, and nothing complains."""
    write(tmp_path / "a.h5", network("vgg16_dct_y", SMALL), Dialect(whole=True))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.create_dataset("optimizer_weights/huge", (1 << 30,), "f4", external=[("absent.bin", 0, 1 << 32)])
    assert convert_keras(tmp_path / "a.h5").info.model == "vgg16_dct_y"


def test_output_appears_only_when_complete(checkpoint, tmp_path):
    """An older output survives a failing conversion."""
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"older")
    with h5py.File(checkpoint, "r+") as file:
        file["fc6/fc6/kernel:0"][0, 0, 0, 0] = np.nan
    with pytest.raises(CheckpointError):
        convert_keras(checkpoint, target)
    assert target.read_bytes() == b"older"
    with pytest.raises(CheckpointError, match="would overwrite the source"):
        convert_keras(checkpoint, checkpoint)
    with pytest.raises(CheckpointError, match="does not exist"):
        convert_keras(checkpoint, tmp_path / "nowhere" / "out.safetensors")


_MEASURE = """
import resource, sys
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.keras.heaps import endless_heap
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = convert_keras(sys.argv[1], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, done.parameters * 4 // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts peak memory in Linux's units")
def test_memory_stays_under_twice_the_weights(unpacked, tmp_path):
    """The largest network, 553 MB of weights, most of them in one layer."""
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, unpacked("vgg16"), tmp_path / "out"], cwd=REPOSITORY, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    (tmp_path / "out").unlink()
    peak_kib, weights_kib = map(int, run.stdout.split())
    assert weights_kib > 500_000
    assert peak_kib < 2 * weights_kib


# --- mutations ---------------------------------------------------------------------------------------------------


def _flip(path: Path, random: np.random.RandomState) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(random.randint(1, 9)):
        data[random.randint(len(data) if random.rand() < 0.5 else 4096)] ^= 1 << random.randint(8)
    path.write_bytes(data)


def _datasets(group: h5py.Group, above: str = "") -> list[str]:
    names: list[str] = []
    for name in group:
        item = group[name]
        names += _datasets(item, f"{above}{name}/") if isinstance(item, h5py.Group) else [above + name]
    return names


def _drop(path: Path, random: np.random.RandomState) -> None:
    with h5py.File(path, "r+") as file:
        names = _datasets(file)
        del file[names[random.randint(len(names))]]


def _reshape(path: Path, random: np.random.RandomState) -> None:
    with h5py.File(path, "r+") as file:
        names = _datasets(file)
        name = names[random.randint(len(names))]
        value = file[name][...]
        del file[name]
        choice = random.randint(4)
        file[name] = (value.T, value.ravel(), value[..., :-1], np.stack([value, value]))[choice]


def _rename(path: Path, random: np.random.RandomState) -> None:
    with h5py.File(path, "r+") as file:
        names = _datasets(file) + list(file)
        name = names[random.randint(len(names))]
        file.move(name, (name + "_9", name + "x", "fc1", "x/y/z")[random.randint(4)])


_MUTATIONS = (_flip, _flip, _flip, _drop, _reshape, _rename)  # flipped bytes reach the most places


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_mutations(part, tmp_path, capsys):
    """Whatever happens to a file, it either converts to exactly what it holds or gives a one-line error."""
    net = network("ssd300_vgg16_dct_y", SMALL, classes=2)
    write(tmp_path / "whole.h5", net)
    write(tmp_path / "config.h5", net, Dialect(whole=True))
    originals = [(tmp_path / name).read_bytes() for name in ("whole.h5", "config.h5")]
    path, output = tmp_path / "a.h5", tmp_path / "a.safetensors"
    converted = 0
    for seed in range(part * 100, part * 100 + 100):
        random = np.random.RandomState(seed)
        path.write_bytes(originals[seed % 2])
        _MUTATIONS[seed % len(_MUTATIONS)](path, random)
        try:
            done = convert_keras(path)
        except CheckpointError as error:
            assert str(path) in str(error), seed
            assert not output.exists(), seed
        else:
            converted += 1
            _same_values(path, output, done.info.model)
            output.unlink()
        assert len(os.listdir(tmp_path)) == 3, f"seed {seed} left something behind"
    assert 10 < converted < 90  # flipped bytes of a weight leave a readable file


def _same_values(path: Path, output: Path, model: str) -> None:
    """The converted tensors are the file's, each once: by their values, whatever their names."""
    assert model == "ssd300_vgg16_dct_y"
    ours = load_file(output)
    assert all(np.isfinite(value).all() for value in ours.values())
    with h5py.File(path) as file:
        root = file.get("model_weights", file)
        theirs = [root[name][...].astype(np.float32) for name in _datasets(root) if "optimizer" not in name]
    given = sorted((torch_layout(v).shape, torch_layout(v).tobytes()) for v in theirs)
    fresh = {key for key in ours if key.startswith(("class_heads", "box_heads", "extras", "source_norm"))}
    kept = sorted((v.shape, v.tobytes()) for key, v in ours.items() if key not in fresh or len(given) == len(ours))
    assert kept == given


def test_command_says_it_in_one_line(tmp_path):
    """The real process: one line on stderr, status 2, no traceback; from a clone, run as a file."""
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    command = [sys.executable, REPOSITORY / "convert" / "keras_to_torch.py", tmp_path / "bad.h5"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1 and "not an HDF5 file" in run.stderr and "Traceback" not in run.stderr
    with pytest.raises(JpegDeepError):
        main([str(tmp_path / "bad.h5")])


def test_a_heap_of_texts_without_an_end_is_not_followed(tmp_path):
    """HDF5 itself goes from object to object of a global heap by their sizes, and never past one of size 0."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"  # a text of variable length: it lies in the heap
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    first = int.from_bytes(data[heap + 24 : heap + 32], "little")
    free = heap + 32 + -(-first // 8) * 8
    assert data[free : free + 2] == b"\0\0" and any(data[free + 8 : free + 16])  # free space, and its size
    assert endless_heap(path) is None
    data[free + 8 : free + 16] = bytes(8)
    path.write_bytes(data)
    refused(path, "damaged HDF5 file", f"at byte {heap}")
