"""The compiled part, where there is one: looked for on first use, and missed aloud once."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def native_module() -> Any:
    """The extension `_native` (_native.pyi), or None, with one warning, where it could not be built."""
    try:
        from . import _native
    except ImportError as error:
        warnings.warn(
            "jpegdeep_torch was installed without its native JPEG reader (no compiler or no libjpeg headers at the "
            f"time, or it does not load: {error}); coefficients are read with jpeg2dct instead, which is slower and "
            "brings every sampling but 4:2:0 and grayscale to 4:2:0",
            stacklevel=3,
        )
        return None
    return _native
