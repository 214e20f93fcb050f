"""Text of unknown origin, such as a file's names, on its way into messages."""

from __future__ import annotations

from collections.abc import Iterable

MOST_ITEMS = 20  # that a message lists
_MOST_CHARACTERS = 200  # of one item


def shown(text: object, most: int | None = _MOST_CHARACTERS) -> str:
    """`text` with control characters and undecodable bytes escaped, and cut to `most` characters."""
    text = str(text)
    cut = "" if most is None or len(text) <= most else f"... ({len(text)} characters)"
    text = text if not cut else text[:most]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text + cut


def listed(items: Iterable[object], separator: str = "; ", most: int = MOST_ITEMS) -> str:
    """The first `most` of `items`, each as `shown` has it, and how many others there are."""
    items = list(items)
    more = f"{separator}and {len(items) - most:,} more" if len(items) > most else ""
    return separator.join(map(shown, items[:most])) + more
