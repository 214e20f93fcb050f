"""Builds the native JPEG reader; everything else about the package is in pyproject.toml.

Two environment variables are for wheels that leave this machine (`.ci/wheel`):

JPEGDEEP_LIBJPEG: the folder into which a static libjpeg-turbo was installed (include/, lib/libjpeg.a, LICENSE.md). It
    is linked into the reader, and its licence put beside it.
JPEGDEEP_NATIVE: `required` makes a reader that cannot be built an error.
"""

import os
import shutil
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("jpegdeep_torch/jpeg/csrc")
PREFIX = os.environ.get("JPEGDEEP_LIBJPEG")
LICENCE = "LICENSE.libjpeg-turbo.md"


class BuildReader(build_ext):
    """As setuptools builds it, with the licence of what is linked into it."""

    def build_extension(self, ext):
        super().build_extension(ext)
        if PREFIX:
            shutil.copy(Path(PREFIX, "LICENSE.md"), Path(self.get_ext_fullpath(ext.name)).with_name(LICENCE))


linked = {"libraries": ["jpeg"]}
if PREFIX:
    (library,) = [path for pattern in ("lib*/libjpeg.a", "lib/jpeg-static.lib") for path in Path(PREFIX).glob(pattern)]
    linked = {"include_dirs": [str(Path(PREFIX, "include"))], "extra_objects": [str(library)]}

msvc = os.name == "nt"
native = Pybind11Extension(
    "jpegdeep_torch.jpeg._native",
    sorted(str(path) for path in SOURCES.glob("*.cpp")),
    depends=sorted(str(path) for pattern in ("*.h", "*.inc") for path in SOURCES.glob(pattern)),
    cxx_std=17,
    # -ffp-contract: a * b + c may become one FMA instruction.  -Wno-psabi: 32-byte vectors never cross a call here.
    extra_compile_args=["/O2"] if msvc else ["-O3", "-ffp-contract=fast", "-Wno-psabi"],
    # No compiler, or no libjpeg headers: the package installs all the same and reads with jpeg2dct.
    optional=os.environ.get("JPEGDEEP_NATIVE") != "required",
    **linked,
)

setup(ext_modules=[native], cmdclass={"build_ext": BuildReader})
