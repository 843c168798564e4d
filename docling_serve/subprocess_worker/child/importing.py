"""The imports of a worker: as few as possible before it is ready, the rest when a job needs it."""

from __future__ import annotations

import sys
from typing import Any

from docling_serve.process.deferred_imports import PARALLEL, STORAGE, TABLES, TORCH, defer
from docling_serve.process.imports import gc_paused

_IMPORTS = "docling_serve.conversion.imports"


@gc_paused()
def import_for_conversions(*, allow_external_plugins: bool, preload_torch: bool = False) -> None:
    """Import everything that a first conversion would import, torch only if it is to be loaded
    before a job needs it."""
    if _IMPORTS in sys.modules:
        return  # forked from a template that has done it already
    defer((*TORCH, *TABLES, *STORAGE, *PARALLEL))
    _conversion_imports().import_all(allow_external_plugins)
    if preload_torch:
        import_torch()


def import_torch() -> None:
    """Import what docling's own models need, before a job needs it."""
    _conversion_imports().import_torch()


def _conversion_imports() -> Any:
    from docling_serve.conversion import imports  # noqa: PLC0415 - heavy

    return imports
