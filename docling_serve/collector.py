"""Python's garbage collector, out of the way of large imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect nothing meanwhile, and never look at what came meanwhile.

    A fifth of the time of importing torch and docling goes into looking for garbage among modules,
    of which none is. Left out of later collections too, they stay shared with forked processes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
