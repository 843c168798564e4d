"""A docling plugin for tests: OCR kind ``faulty``, which fails on purpose in the middle of a page.

With this folder's parent on ``PYTHONPATH`` docling finds it as it finds any plugin. A request
chooses what happens: ``ocr_custom_config={"kind": "faulty", "do": "segfault"}``.
"""

from __future__ import annotations

from typing import Any


def ocr_engines() -> dict[str, list[Any]]:
    """The engine, as docling's OCR factory asks for it."""
    from faulty_ocr.engine import FaultyOcr

    return {"ocr_engines": [FaultyOcr]}
