"""The wheel as a user gets it: what it holds, and that it works in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from jpegdeep_torch import __version__
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.jpeg_samples import jpeg

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=os.environ | environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The paths that git knows, as far as they are in the working tree."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory) -> Path:
    """Built from a copy of what git knows: nothing that merely lies about gets in."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".", cwd=source)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run(*PIP, "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


@pytest.fixture
def user(installed, tmp_path):
    """user(WORD, ...) runs a command in an empty folder, where the installed wheel comes first."""
    path = os.pathsep.join((str(installed), sysconfig.get_path("purelib")))
    return lambda *command: run(*command, cwd=tmp_path, PYTHONPATH=path)


def test_names(wheel, tracked):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        entry_points = file.read(f"jpegdeep_torch-{__version__}.dist-info/entry_points.txt").decode()
    assert {name.partition("/")[0] for name in names} == {"jpegdeep_torch", f"jpegdeep_torch-{__version__}.dist-info"}
    library = {name for name in names if name.startswith("jpegdeep_torch/")}
    wanted = [
        n
        for n in tracked
        if n.startswith("jpegdeep_torch/") and n.endswith((".py", ".pyi", ".typed", ".toml", ".safetensors"))
    ]
    assert set(wanted) <= library
    assert wheel.stat().st_size < 20e6
    for suffix in (".py", ".pyi", ".typed", ".toml", ".safetensors"):
        assert any(name.endswith(suffix) for name in wanted), suffix
    assert entry_points.split("\n")[:2] == ["[console_scripts]", "jpegdeep = jpegdeep_torch.cli.main:run"]


def test_help(user, installed):
    for command in ((sys.executable, "-m", "jpegdeep_torch"), (installed / "bin" / "jpegdeep",)):
        assert "predict" in user(*command, "--help").stdout


def test_import(user, installed):
    code = "import jpegdeep_torch as j; print(j.__file__, j.__version__, j.Detector.__module__)"
    assert user(sys.executable, "-c", code).stdout.split() == [
        str(installed / "jpegdeep_torch" / "__init__.py"), __version__, "jpegdeep_torch.inference.detector",
    ]  # fmt: skip


def test_predict_by_the_weights_in_the_wheel(user, installed, tmp_path):
    """What the README begins with: nothing is downloaded, and boxes are drawn."""
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    user(installed / "bin" / "jpegdeep", "predict", "bccd", "photo.jpg", "-o", "out")
    assert (tmp_path / "out" / "detections.jsonl").read_text().count("\n") == 1
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 1
    assert "MIT" in user(installed / "bin" / "jpegdeep", "models", "bccd").stdout


def test_predict(user, installed, tmp_path):
    save_weights(create_model("ssd300_vgg16_dct", width=0.05, seed=0).eval(), tmp_path / "weights.safetensors")
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    user(installed / "bin" / "jpegdeep", "predict", "weights.safetensors", "photo.jpg", "-o", "out")
    (line,) = (tmp_path / "out" / "detections.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == "photo.jpg"
    assert (tmp_path / "out" / "pictures").is_dir()
