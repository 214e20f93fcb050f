"""The stub of the native module against the module: names, and arguments as pybind11 wrote them into docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from jpegdeep_torch import jpeg
from jpegdeep_torch.jpeg.native import native_module

NATIVE = native_module()
STUB = Path(jpeg.__file__).with_name("_native.pyi")

pytestmark = pytest.mark.skipif(NATIVE is None, reason="the native module was not built")


def _public(names) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def _stated(body: list[ast.stmt]) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """{name: its definition}."""
    return {node.name: node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


STATED = _stated(ast.parse(STUB.read_text(encoding="utf-8")).body)
CLASSES = sorted(name for name, node in STATED.items() if isinstance(node, ast.ClassDef))


def _arguments(function: ast.FunctionDef) -> list[tuple[str, str | None]]:
    """(name, default as Python) of each argument."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    assert not (function.args.vararg or function.args.kwonlyargs or function.args.kwarg)
    defaults = [None] * (len(arguments) - len(function.args.defaults)) + [
        ast.unparse(d) for d in function.args.defaults
    ]
    return [(argument.arg, default) for argument, default in zip(arguments, defaults)]


def _documented(function: object) -> list[tuple[str, str | None]]:
    """The same from pybind11's first line, 'name(self: Class, data: bytes, fast: bool = True) -> None'."""
    (line,) = [line for line in (function.__doc__ or "").splitlines() if line]
    (parsed,) = ast.parse(f"def {re.sub(r' -> .*$', '', line)}: ...").body
    return _arguments(parsed)


def test_module_has_what_the_stub_states():
    assert _public(STATED) == _public(dir(NATIVE)) and len(CLASSES) >= 4


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    native, stub = getattr(NATIVE, name), _stated(STATED[name].body)
    if issubclass(native, Exception):
        assert [ast.unparse(base) for base in STATED[name].bases] == [base.__name__ for base in native.__bases__]
        return
    assert _public(stub) == _public(dir(native))
    assert _arguments(stub["__init__"]) == _documented(native.__init__)
    for member in _public(stub):
        found = getattr(native, member)
        is_property = "property" in [ast.unparse(d) for d in stub[member].decorator_list]
        assert is_property == isinstance(found, property), member
        if not is_property:
            assert _arguments(stub[member]) == _documented(found), member


@pytest.mark.parametrize("name", sorted(set(STATED) - set(CLASSES)))
def test_function(name):
    assert _arguments(STATED[name]) == _documented(getattr(NATIVE, name))
