"""Builds the native JPEG reader; everything else about the package is in pyproject.toml."""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

SOURCES = Path("jpegdeep_torch/jpeg/csrc")

native = Pybind11Extension(
    "jpegdeep_torch.jpeg._native",
    sorted(str(path) for path in SOURCES.glob("*.cpp")),
    depends=sorted(str(path) for pattern in ("*.h", "*.inc") for path in SOURCES.glob(pattern)),
    cxx_std=17,
    libraries=["jpeg"],
    # -ffp-contract: a * b + c may become one FMA instruction.  -Wno-psabi: 32-byte vectors never cross a call here.
    extra_compile_args=["-O3", "-ffp-contract=fast", "-Wno-psabi"],
    # No compiler, or no libjpeg headers: the package installs all the same and reads with jpeg2dct.
    optional=True,
)

setup(ext_modules=[native])
