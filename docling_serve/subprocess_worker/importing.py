"""The imports of a worker, some seconds of computing: as few as can be, and in nobody's way."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from functools import partial

from docling_serve.collector import gc_paused
from docling_serve.subprocess_worker.priority import run_in_background

_IMPORTS = "docling_serve.conversion.imports"
# Their BLAS starts its threads when it is imported, with the priority of the importing thread.
_START_THREADS = ("numpy", "scipy.linalg")


def import_for_conversions(*, allow_external_plugins: bool, background: bool = False) -> None:
    """Import everything a first conversion would import on its way.

    ``background``: at a low priority, since a job runs elsewhere and nothing waits for this worker.
    """
    if _IMPORTS in sys.modules:
        return  # forked from a template that has done it
    if not background:
        _import(allow_external_plugins)
        return
    for name in _START_THREADS:
        with suppress(ImportError):
            importlib.import_module(name)
    run_in_background(partial(_import, allow_external_plugins))


@gc_paused()
def _import(allow_external_plugins: bool) -> None:
    from docling_serve.conversion.imports import import_all  # noqa: PLC0415 - imports torch

    import_all(allow_external_plugins)
