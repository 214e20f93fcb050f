"""Object detection in JPEG files without decoding them: SSD300 on DCT coefficients, and its twin on pixels.

Its names are those of `jpegdeep_torch.public`, which is imported when the first of them is used.  Importing this
package alone, as `jpegdeep --help` does, does not import PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .public import *  # noqa: F403 - so that editors and type checkers know the names

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:  # PEP 562
    if name == "__all__" or not name.startswith("_"):
        public = importlib.import_module(".public", __name__)
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
        if name in globals():  # a module that was imported with them
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
