"""import-linter's contracts in pyproject.toml: each refuses a module that breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LINTER = Path(sys.executable).with_name("lint-imports")
BREAKERS = {  # contract -> new modules that break this one alone
    "imports of the library go down its layers": {"jpegdeep_torch/models/added.py": "from .. import jpeg"},
    "the library knows nothing of laboratory, short forms and tests": {
        "jpegdeep_torch/utils/added.py": "import eval.benchmark",
    },
    "no circle of imports": {
        "jpegdeep_torch/utils/added.py": "from . import added_too",
        "jpegdeep_torch/utils/added_too.py": "from . import added",
    },
}

pytestmark = pytest.mark.skipif(not LINTER.is_file(), reason="import-linter is not installed")


@pytest.fixture
def copy(tmp_path) -> Path:
    """The packages' Python files, the tests' __init__ and pyproject.toml."""
    for package in ("jpegdeep_torch", "eval", "convert"):
        only_python = shutil.ignore_patterns("__pycache__", "csrc", "*.so", "*.pyd")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=only_python)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "__init__.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def verdicts(folder: Path) -> tuple[dict[str, str], str]:
    """({contract: KEPT or BROKEN}, all that lint-imports says), of the packages in `folder`."""
    done = subprocess.run([LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120)
    words = (line.split(" (")[0].rsplit(maxsplit=1) for line in done.stdout.splitlines())
    found = {row[0]: row[1] for row in words if row[1:] in (["KEPT"], ["BROKEN"])}
    assert (done.returncode == 0) == ("BROKEN" not in found.values()), done.stdout + done.stderr
    return found, done.stdout + done.stderr


def test_every_contract_has_a_breaker():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]} == set(BREAKERS)


def test_as_it_is(copy):
    found, said = verdicts(copy)
    assert found == dict.fromkeys(BREAKERS, "KEPT"), said


@pytest.mark.parametrize("contract", BREAKERS)
def test_broken(contract, copy):
    for path, source in BREAKERS[contract].items():
        (copy / path).write_text(source + "\n")
    found, said = verdicts(copy)
    assert found == dict.fromkeys(BREAKERS, "KEPT") | {contract: "BROKEN"}, said
    assert Path(next(iter(BREAKERS[contract]))).stem in said.partition("Broken contracts")[2], said


def test_a_room_without_a_layer(copy):
    (copy / "jpegdeep_torch" / "added.py").write_text("from . import errors\n")
    found, said = verdicts(copy)
    layers = next(iter(BREAKERS))
    assert found == dict.fromkeys(BREAKERS, "KEPT") | {layers: "BROKEN"}, said
    assert "added" in said.partition("Broken contracts")[2], said
