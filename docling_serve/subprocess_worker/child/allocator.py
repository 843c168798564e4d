"""Keep memory that a conversion frees while the worker is working.

glibc returns large blocks to the kernel as soon as they are freed, and maps them again, page by
page, for the next image: over 100,000 page faults per scanned page. A process whose exit frees
everything does not need that. It returns free memory when it is idle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER = -1
_TOP_PAD_BYTES = 64 * 2**20

#: What :func:`keep_freed_memory` returns if it took effect.
KEPT = "on"

_OPERATORS_OWN = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory(environ: Mapping[str, str]) -> str:
    """Make this process keep the memory it frees, from now on. Call it before threads start.

    Returns ``KEPT``, or why not: settings that the operator has tuned are left alone.
    """
    for name in environ:
        if name.startswith(_OPERATORS_OWN):
            return f"left to {name}"
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return "off: the C library has no mallopt"
    tuned = (
        # Threads that finish return their arenas to the kernel, whatever the threshold is.
        (_ARENA_MAX, 1),
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, _TOP_PAD_BYTES),
    )
    refused = [parameter for parameter, value in tuned if not mallopt(parameter, value)]
    return f"off: mallopt refused {refused}" if refused else KEPT


def give_back_freed_memory() -> None:
    """Return all unused pages of this process to the kernel; some 0.1 s for 1 GB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
