"""Checkpoint files of every kind, damaged at random: each converts to exactly what it holds, or is one line.

    PYTHONPATH=. python tests/mutations.py [--count 2000] [--first 0] [--kinds KIND ...]

Every mutation runs in a process of its own, under 1 GiB and 20 s, and leaves nothing behind.  What a file holds is read
here by h5py, zipfile and torch alone.  The status is 1 where a mutation failed; its seed and kind repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import lzma
import os
import shutil
import signal
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import torchvision
from safetensors.numpy import load_file

from jpegdeep_torch.cli.command import run_command
from jpegdeep_torch.cli.convert import main as convert
from jpegdeep_torch.weights import read_info
from tests.keras.files import Dialect, write
from tests.keras.options import option_file
from tests.keras.samples import DATA, unpack
from tests.keras.tables import network
from tests.keras.test_applications import published

MOST_MIB, MOST_SECONDS = 1024, 20
SMALL = 1 / 32


def _keras_3(ending: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"a{ending}"
        path.write_bytes(lzma.decompress((DATA / f"ssd300_vgg16_dct_y_keras3{ending}.xz").read_bytes()))
        return path

    return make


def _deep(whole: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / "a.h5", network("ssd300_vgg16_dct_y", SMALL, classes=2), Dialect(whole=whole))
        return folder / "a.h5"

    return make


def _mobilenet(archive: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.manual_seed(0)
        state = torchvision.models.mobilenet_v2(weights=None).state_dict()
        torch.save(state, folder / "a.pth", _use_new_zipfile_serialization=archive)
        return folder / "a.pth"

    return make


KINDS: dict[str, Callable[[Path], Path]] = {
    "save_weights": _deep(False),
    "model.save": _deep(True),
    "ssd_keras save_weights": lambda folder: option_file("as published", folder, whole=False),
    "ssd_keras model.save": lambda folder: option_file("as published", folder, whole=True),
    "ssd_keras SSD512": lambda folder: unpack("ssd_keras_ssd512", folder),
    "keras-applications, Keras 1": lambda folder: published(folder / "a.h5", "vgg16", "keras 1"),
    "keras-applications, no top": lambda folder: published(folder / "a.h5", "resnet50", "today", top=False),
    "Keras 3 .weights.h5": _keras_3(".weights.h5"),
    "Keras 3 .keras": _keras_3(".keras"),
    "Keras 3 model.save": _keras_3(".h5"),
    ".pth": _mobilenet(True),
    ".pth before PyTorch 1.6": _mobilenet(False),
}


# Mutations --------------------------------------------------------------------------------------------------------


def _bytes(data: bytearray, random: np.random.RandomState) -> bytearray:
    """Bits flipped, a range lost, zeroed, doubled or overwritten; half of them in the first or the last 4 KiB."""
    size = len(data)
    where = random.randint(4)

    def place() -> int:
        at = random.randint(min(size, 4096))
        return at if where == 0 else size - 1 - at if where == 1 else random.randint(size)

    kind = random.randint(8)
    start, length = place(), int(2 ** random.uniform(0, 16))
    if kind < 4:
        for _ in range(random.randint(1, 9)):
            data[place()] ^= 1 << random.randint(8)
    elif kind == 4:
        del data[start : start + (length if random.randint(2) else size)]
    elif kind == 5:
        data[start : start + length] = bytes([random.choice([0, 255])]) * len(data[start : start + length])
    elif kind == 6:
        data[start:start] = data[start : start + length]
    else:
        data[start : start + length] = random.bytes(len(data[start : start + length]))
    return data


def _text(text: bytes, random: np.random.RandomState) -> bytes:
    """JSON with a value, a bracket or a digit changed."""
    data = bytearray(text)
    for _ in range(random.randint(1, 4)):
        digits = [i for i, c in enumerate(data) if chr(c).isdigit()] if random.randint(2) else range(len(data))
        at = digits[random.randint(len(digits))]
        data[at : at + 1] = [b"9", b"-1", b"1e400", b"NaN", b"null", b"[", b'"', b"{}", b""][random.randint(9)]
    return bytes(data)


def _datasets(group: h5py.Group) -> list[str]:
    names: list[str] = []
    for name in group:
        item = group[name]
        names += [f"{name}/{below}" for below in _datasets(item)] if isinstance(item, h5py.Group) else [name]
    return names


def _structure(path: Path, random: np.random.RandomState) -> None:
    """A dataset lost, of another shape, type or name, or with odd values; an attribute lost or changed."""
    with h5py.File(path, "r+") as file:
        names = _datasets(file)
        name = names[random.randint(len(names))]
        kind = random.randint(7)
        value = file[name][...]
        if kind == 0:
            del file[name]
        elif kind == 1:
            del file[name]
            others = [value.T, value.ravel(), value[..., :-1], np.stack([value, value]), value.astype(np.int32)]
            file[name] = others[random.randint(5)]
        elif kind == 2:
            name = [*names, *file][random.randint(len(names) + len(file))]
            file.move(name, (f"{name}_9", f"{name}x", "fc1", "x/y/z")[random.randint(4)])
        elif kind == 3 and value.size:
            flat = value.reshape(-1).copy()
            flat[random.randint(flat.size)] = [np.nan, np.inf, -1.0, 3e38][random.randint(4)]
            file[name][...] = flat.reshape(value.shape)
        elif kind == 4 and "model_config" in file.attrs:
            config = file.attrs["model_config"]
            text = config.encode() if isinstance(config, str) else bytes(config)
            file.attrs["model_config"] = np.bytes_(_text(text, random))
        else:
            groups = [file, *(file[n] for n in file if isinstance(file[n], h5py.Group))]
            group = groups[random.randint(len(groups))]
            if len(group.attrs):
                attribute = list(group.attrs)[random.randint(len(group.attrs))]
                del group.attrs[attribute]
                if kind == 5:
                    group.attrs[attribute] = [b"x", 3, np.array([b"fc6", b"ghost"]), "\x1b[2J"][random.randint(4)]


def _inside(path: Path, random: np.random.RandomState) -> None:
    """A member of a zip archive changed, with a checksum that fits."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = list(members)[random.randint(min(len(members), 8))]
    if name.endswith(".json"):
        members[name] = _text(members[name], random)
    elif name.endswith(".h5"):
        inner = path.with_name("inner.h5")
        inner.write_bytes(members[name])
        _structure(inner, random)
        members[name] = inner.read_bytes()
        inner.unlink()
    else:
        members[name] = bytes(_bytes(bytearray(members[name]), random))
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def mutate(path: Path, random: np.random.RandomState) -> None:
    if random.randint(2):
        path.write_bytes(_bytes(bytearray(path.read_bytes()), random))
    elif zipfile.is_zipfile(path):
        _inside(path, random)
    elif path.suffix == ".h5":
        _structure(path, random)
    else:
        path.write_bytes(_bytes(bytearray(path.read_bytes()), random))


# What a file holds, read without the converter --------------------------------------------------------------------


def _held_in_h5(path: Path) -> tuple[list[np.ndarray], dict | None]:
    with h5py.File(path) as file:
        root = file["model_weights"] if isinstance(file.get("model_weights"), h5py.Group) else file
        names = [n for n in _datasets(root) if not n.startswith("optimizer")]
        config = json.loads(file.attrs["model_config"]) if "model_config" in file.attrs else None
        return [np.asarray(root[n][...], np.float32) for n in names], config


def _held(path: Path) -> tuple[list[np.ndarray], dict | None]:
    if path.suffix != ".keras":
        return _held_in_h5(path)
    with zipfile.ZipFile(path) as archive:
        inner = path.with_name("held.h5")
        inner.write_bytes(archive.read("model.weights.h5"))
        values, _ = _held_in_h5(inner)
        inner.unlink()
        return values, json.loads(archive.read("config.json"))


def _key(value: np.ndarray) -> tuple[int, bytes]:
    return value.size, np.sort(value + np.float32(0), axis=None).tobytes()  # no -0.0, whose place is anywhere


def assert_right(path: Path, output: Path) -> None:
    """`output` holds what `path` does, each value once, and the anchors that the file states."""
    ours = load_file(output)
    assert all(np.isfinite(value).all() for value in ours.values())
    if path.suffix == ".pth":
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        theirs = {k: v.float().numpy() for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
        first = "features.0.0.weight"
        deviation = 255 * np.array([0.229, 0.224, 0.225])
        assert np.allclose(ours.pop(first), theirs.pop(first) / deviation[:, None, None], rtol=1e-6, atol=1e-37)
        assert all(np.array_equal(value, ours[key]) for key, value in theirs.items() if key in ours)
        assert not set(theirs) - set(ours) and {k.split(".")[0] for k in set(ours) - set(theirs)} <= {"classifier"}
        return
    values, config = _held(path)
    layers = (
        {x["config"].get("name", x.get("name")): x["config"] for x in config["config"]["layers"] if "config" in x}
        if config
        else {}
    )
    anchors = [settings for settings in layers.values() if "this_scale" in settings]
    if anchors:
        stated = [float(settings["this_scale"]) for settings in anchors]
        assert np.allclose(read_info(output).anchor_scales[:-1], stated, atol=1e-6)
    # Where options that the configuration states are carried out: swap and deviation, variances.
    moved = ("box_heads", "trunk.base.stem.block1_conv1") if anchors else ()
    left = {key: _key(value) for key, value in ours.items()}
    strange = []
    for value in values:
        key = next((key for key, held in left.items() if held == _key(value)), None)
        if key is None:
            strange.append(value)
        else:
            del left[key]
    for value in strange:  # a variance, moved by another epsilon: all of it by the same; or an option's
        key = next((k for k in left if ours[k].size == value.size and (k.startswith(moved) or
                    (value.ndim == 1 and np.ptp(ours[k] - value) < 1e-6))), None)  # fmt: skip
        assert key is not None, f"values of the file of shape {value.shape} are not in the output"
        del left[key]
    beyond = ("class_heads", "box_heads", "extras", "source_norm", "fc1", "fc2", "predictions", "fc1000")
    assert all(key.startswith(beyond) for key in left), f"{left.keys()} are not in the file"


# Running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    kind: str
    seed: int
    status: int  # 0: converted and right; 2: one line; anything else: a failure
    mib: float
    seconds: float
    said: str


def _child(path: Path) -> int:
    """Converts `path`; 0 or 2, where the command does what it must."""
    output = path.with_name("out.safetensors")
    before = sorted(path.parent.iterdir())
    error, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(out):
        status = run_command(convert, [str(path), "-o", str(output)])
    if status == 2:
        told = error.getvalue()
        assert told.count("\n") == 1 and told.rstrip("\n").isprintable() and len(told) < 10_000, told
        assert str(path) in told, told
        assert sorted(path.parent.iterdir()) == before, "something was left behind"
        print(told.strip()[:300])
        return 2
    assert status == 0, (status, error.getvalue())
    assert_right(path, output)
    return 0


def run_one(kind: str, original: Path, seed: int, folder: Path) -> Outcome:
    """One mutation of `original` in a process of its own."""
    path = folder / original.name
    shutil.copy(original, path)
    with contextlib.suppress(OSError, KeyError, ValueError, RuntimeError):  # h5py refuses some, which leaves a file too
        mutate(path, np.random.RandomState(seed))
    said = folder.parent / "said.txt"
    process = os.fork()
    if process == 0:
        status = 1
        try:
            with open(said, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            signal.alarm(MOST_SECONDS * 5)  # a loaded machine is slower than the CPU time that is measured
            status = _child(path)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, wait_status, usage = os.wait4(process, 0)
    seconds = usage.ru_utime + usage.ru_stime
    status = os.waitstatus_to_exitcode(wait_status)
    mib = usage.ru_maxrss / 1024
    if status in (0, 2) and (mib > MOST_MIB or seconds > MOST_SECONDS):
        status = 3
    text = said.read_text(errors="replace")
    for left in folder.iterdir():
        left.unlink()
    return Outcome(kind, seed, status, mib, seconds, text)


def run(seeds: range, kinds: list[str], told: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:
    """Seed n damages a file of kind n modulo the number of kinds."""
    outcomes = []
    with tempfile.TemporaryDirectory() as made:
        originals = {}
        for i, kind in enumerate(kinds):
            (Path(made) / str(i)).mkdir()
            originals[kind] = KINDS[kind](Path(made) / str(i))
            assert _child(originals[kind]) == 0, kind  # it is right as it is; and what is loaded once is shared
            originals[kind].with_name("out.safetensors").unlink()
        work = Path(made) / "work"
        work.mkdir()
        for seed in seeds:
            kind = kinds[seed % len(kinds)]
            outcomes.append(run_one(kind, originals[kind], seed, work))
            told(outcomes[-1])
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    args = parser.parse_args()
    torch.set_num_threads(1)

    def told(outcome: Outcome) -> None:
        if outcome.status not in (0, 2):
            print(f"FAILED {outcome}", flush=True)
        elif outcome.seed % 100 == 99:
            print(f"{outcome.seed + 1} ...", flush=True)

    outcomes = run(range(args.first, args.first + args.count), args.kinds, told)
    for kind in args.kinds:
        of_kind = [o for o in outcomes if o.kind == kind]
        right, refused = (sum(o.status == status for o in of_kind) for status in (0, 2))
        print(f"{kind:30} {len(of_kind):5}: {right} right, {refused} refused, "
              f"{len(of_kind) - right - refused} failed; at most {max((o.mib for o in of_kind), default=0):.0f} MiB, "
              f"{max((o.seconds for o in of_kind), default=0):.1f} s")  # fmt: skip
    return int(any(o.status not in (0, 2) for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
