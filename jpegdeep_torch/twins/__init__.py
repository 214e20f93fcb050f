"""Twins: trained RGB networks whose early layers are replaced by a stem on coefficients, taught without labels."""

from .learning import TwinConfig
from .make import Twin, TwinResult, make_twin

__all__ = ["Twin", "TwinConfig", "TwinResult", "make_twin"]
