"""Twins: trained RGB networks whose early layers are replaced by a stem on coefficients, taught without labels."""

from .learning import TwinConfig
from .make import TwinResult, make_twin
from .twin import Twin, load_stem, save_stem

__all__ = ["Twin", "TwinConfig", "TwinResult", "load_stem", "make_twin", "save_stem"]
