"""How a process imports large libraries: without the garbage collector, or not at all.

:mod:`docling_serve.process.deferred_imports` has the third way: later.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_HEAVY = ("torch", "transformers")


def leave_out_torch() -> bool:
    """Mark torch and transformers as absent in this process; False if one is imported already.

    docling's data models import both only if they are present. Without them those models,
    docling-jobkit's task and orchestrator classes and docling's factories still import, in a fifth
    of the memory, and no line of the gateway can touch CUDA by accident. Workers are not affected:
    a spawned process starts with modules of its own, and a fork server is a spawned process.
    """
    if any(sys.modules.get(name) is not None for name in _HEAVY):
        return False
    for name in _HEAVY:
        sys.modules[name] = None  # type: ignore[assignment]  # the import system's "absent"
    return True


def is_left_out() -> bool:
    """Whether :func:`leave_out_torch` is in force."""
    return all(name in sys.modules and sys.modules[name] is None for name in _HEAVY)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection, and exempt what was allocated meanwhile from later collections.

    A fifth of the time it takes to import torch and docling is spent looking for garbage among
    modules. Exempt objects also stay shared with forked processes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
