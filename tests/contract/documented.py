"""Differences from docling-serve 1.38.2 are allowed only if docs/differences.md tells of them."""

from __future__ import annotations

from pathlib import Path

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"


def is_documented(item: str) -> bool:
    """Whether a row of the page has this behaviour, e.g. ``B19``, or this anchor as its name."""
    rows = DIFFERENCES.read_text(encoding="utf-8").splitlines()
    names = (row.split("|")[1] for row in rows if row.startswith("| "))
    return item in {name.strip() for cell in names for name in cell.split(",")}
