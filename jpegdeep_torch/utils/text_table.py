"""Tables as text."""

from __future__ import annotations

from typing import Any


def text_table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text, the first column to the left."""

    def shown(value: Any) -> str:
        return ("-" if value != value else f"{value:.4f}") if isinstance(value, float) else str(value)

    lines = [list(rows[0])] + [[shown(v) for v in row.values()] for row in rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )
