"""Figures and tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 4


def duration_text(seconds: float) -> str:
    """A span of time in its two largest units: `0.4 s`, `12 s`, `3 min 5 s`, `2 d 4 h`."""
    if seconds < 10:  # noqa: PLR2004 - the docstring tells
        return f"{seconds:.1f} s"
    parts = []
    left = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def bytes_text(count: float) -> str:
    """Bytes in the largest binary unit that leaves at least 1: `512 B`, `1.2 MiB`."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1024:  # noqa: PLR2004 - the docstring tells
            break
        count, unit = count / 1024, larger
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
