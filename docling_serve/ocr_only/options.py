"""Options of the two kinds; importable without torch."""

from __future__ import annotations

from typing import ClassVar

from docling.datamodel.pipeline_options import BaseLayoutOptions, BaseTableStructureOptions


class FullPageLayoutOptions(BaseLayoutOptions):
    """Options of the ``full_page`` layout; the defaults are what a server needs."""

    kind: ClassVar[str] = "full_page"


class NoTableStructureOptions(BaseTableStructureOptions):
    """Options of the ``none`` table engine.

    Takes and ignores what other engines know (``mode``, ``do_cell_matching``), because
    docling-jobkit hands a request's ``table_mode`` to whatever engine is the default.
    """

    kind: ClassVar[str] = "none"


class EmbeddedLayoutOptions(BaseLayoutOptions):
    """Options of the ``embedded`` layout; there is nothing to choose."""

    kind: ClassVar[str] = "embedded"


class EmbeddedTableStructureOptions(BaseTableStructureOptions):
    """Options of the ``embedded`` table engine; takes and ignores what other engines know."""

    kind: ClassVar[str] = "embedded"
