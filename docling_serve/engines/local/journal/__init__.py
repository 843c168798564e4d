"""The journal of the local engine: accepted tasks and their outcomes, in SQLite."""

from docling_serve.engines.local.journal.journal import Journal, require_usable
from docling_serve.engines.local.journal.records import (
    IllegalMove,
    JournalUnusable,
    TaskRow,
)

__all__ = [
    "IllegalMove",
    "Journal",
    "JournalUnusable",
    "TaskRow",
    "require_usable",
]
