"""The names of the package, and that they cost nothing until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jpegdeep_torch
from jpegdeep_torch import public


def test_every_public_name_is_there_and_listed():
    assert len(set(public.__all__)) == len(public.__all__) and "Detector" in public.__all__
    for name in public.__all__:
        assert getattr(jpegdeep_torch, name) is getattr(public, name)
    assert set(public.__all__) <= set(dir(jpegdeep_torch))
    names = {}
    exec("from jpegdeep_torch import *", names)
    assert set(public.__all__) <= set(names)
    with pytest.raises(AttributeError, match="module 'jpegdeep_torch' has no attribute 'nothing'"):
        _ = jpegdeep_torch.nothing
    with pytest.raises(ImportError):
        exec("from jpegdeep_torch import nothing")


def in_a_process(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    return done.stdout.split()


def test_importing_imports_no_pytorch_until_a_name_is_used():
    code = (
        "import sys, jpegdeep_torch; print('torch' in sys.modules); print(jpegdeep_torch.list_models('vgg16')[0]);"
        "print('torch' in sys.modules, callable(jpegdeep_torch.backends.list_backends))"
    )
    assert in_a_process(code) == ["False", "vgg16", "True", "True"]
