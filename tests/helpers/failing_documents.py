"""Requests whose conversion fails on purpose, in native code, in the middle of a page."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.helpers.documents import scanned_png


def faulty(do: str, marker: Path | None = None) -> dict[str, str]:
    """Form fields that have the plugin in ``tests/plugins`` do ``do``; with a ``marker``, a path,
    only once: that file gets another time."""
    if marker is not None:
        marker.touch()
        os.utime(marker, (0, 0))
    config = {"kind": "faulty", "do": do, "marker": str(marker or "")}
    return {"ocr_custom_config": json.dumps(config)}


#: A small image; its OCR engine decides what comes of it.
PAGE = ("page.png", scanned_png())
