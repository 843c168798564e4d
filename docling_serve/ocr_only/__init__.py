"""Docling plugin that needs no model hub: layouts ``embedded``, ``full_page``; tables likewise.

docling finds it through the entry point group ``docling`` and calls the two functions below,
in every process that builds a model factory. So importing this package imports nothing else.
``examples/embedded.yaml`` selects layout and table kind ``embedded``, ``examples/ocr-only.yaml``
the kinds ``full_page`` and ``none``, which give text alone.
"""

from __future__ import annotations

from typing import Any

__all__ = ["layout_engines", "table_structure_engines"]


def layout_engines() -> dict[str, list[Any]]:
    """The layout models of this plugin, as docling's layout factory asks for them."""
    from .layout import EmbeddedLayout  # noqa: PLC0415
    from .stages import FullPageLayout  # noqa: PLC0415

    return {"layout_engines": [FullPageLayout, EmbeddedLayout]}


def table_structure_engines() -> dict[str, list[Any]]:
    """The table models of this plugin, as docling's table structure factory asks for them."""
    from .stages import NoTableStructure  # noqa: PLC0415
    from .tables import EmbeddedTableStructure  # noqa: PLC0415

    return {"table_structure_engines": [NoTableStructure, EmbeddedTableStructure]}
