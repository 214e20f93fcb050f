"""That all that is installed by default may be used by anybody for anything."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement

from jpegdeep_torch.utils.settings import tomllib

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
PERMISSIVE = re.compile(r"\b(MIT|BSD|0BSD|Apache|ISC|Zlib|PSF|HPND|MPL|Python Software Foundation)\b", re.IGNORECASE)
RESTRICTED = re.compile(r"non-?commercial|\bA?L?GPL|proprietary|academic", re.IGNORECASE)


def licence_of(distribution: importlib.metadata.Distribution) -> str:
    """What the metadata say: an SPDX expression, classifiers, or the whole text."""
    metadata = distribution.metadata
    stated = [metadata.get("License-Expression"), metadata.get("License")]
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    return "\n".join([text for text in stated if text] + classifiers)


def installed_by(requirements: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """What these lines bring, and what that brings in turn.

    PyTorch's own requirements are left out: its CUDA builds bring NVIDIA's libraries, under NVIDIA's licence.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    left = [Requirement(line) for line in requirements]
    while left:
        wanted = left.pop()
        name = wanted.name.lower()
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = importlib.metadata.distribution(name)
        if name != "torch":
            left += [Requirement(line) for line in found[name].requires or []]
    return found


def test_what_is_installed_by_default_is_permissive():
    found = installed_by(PROJECT["dependencies"])
    assert len(found) >= len(PROJECT["dependencies"]) - 1  # tomli is for an older Python alone
    licences = {name: licence_of(distribution) for name, distribution in found.items()}
    refused = {
        name: text[:80] for name, text in licences.items() if RESTRICTED.search(text) or not PERMISSIVE.search(text)
    }
    assert refused == {}


def test_a_non_commercial_licence_is_seen():
    """jpeg2dct's, which is an extra for that reason."""
    assert RESTRICTED.search(licence_of(importlib.metadata.distribution("jpeg2dct-numpy")))
    assert not any("jpeg2dct" in line for line in PROJECT["dependencies"])
