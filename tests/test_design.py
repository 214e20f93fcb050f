"""docs/design.md against the code: its layers are the linter's, and what its table points at is there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jpegdeep_torch"
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
LIBRARY = {path.name for path in PACKAGE.iterdir()}


def section(title: str) -> str:
    """The text below `title`, up to the next heading."""
    return DESIGN.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the table in `text`, without its head."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]


def place(name: str) -> Path:
    """Where `name` lies: in the library where its first part does, else in the repository."""
    return (PACKAGE if name.split("/")[0] in LIBRARY else ROOT) / name


PLACES = sorted({name for name in re.findall(r"`([\w./]+)`", DESIGN) if "/" in name})
DEFINED = re.findall(r"`([\w/]+\.py)` \(`(\w+)`", DESIGN)


def test_the_layers_are_the_linters():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    linted = [name.strip() for layer in layers for name in layer.split("|")]
    described = [name.rstrip("/") for row in rows(section("Layers")) for name in re.findall(r"`([\w/]+)`", row[0])]
    assert described == linted


def test_the_table_says_what_a_newcomer_asks():
    asked = " ".join(row[0] for row in rows(section("Where to find, where to add")))
    for what in ("bytes become coefficients", "NMS", "a network", "a backend", "a data set", "a command"):
        assert what in asked
    assert len(PLACES) > 20 and len(DEFINED) > 4


@pytest.mark.parametrize("name", PLACES)
def test_place(name):
    assert place(name).exists()


@pytest.mark.parametrize(("file", "name"), DEFINED)
def test_name_is_defined_there(file, name):
    found = set()
    for node in ast.walk(ast.parse(place(file).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert name in found
