"""A detector behind HTTP: requests gathered into batches, an API that others' clients know, and a page to try it."""

from .app import Limits, create_app

__all__ = ["Limits", "create_app"]
