"""What becomes of memory that a conversion frees: the worker keeps it while it works.

glibc hands large blocks back to the kernel the moment they are freed, and gets them anew, page by
page, for the next image: over 100,000 page faults per scanned page. A process whose end gives
everything back has no need of that. It gives back what is free when it has nothing to do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER = -1
_TOP_PAD_BYTES = 64 * 2**20

_OPERATORS_OWN = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory(environ: Mapping[str, str]) -> str:
    """Have this process keep what it frees, from now on. To be called before it starts threads.

    Returns ``"on"``, or why not: what the operator has tuned stays as it is.
    """
    for name in environ:
        if name.startswith(_OPERATORS_OWN):
            return f"left to {name}"
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return "off: the C library has no mallopt"
    tuned = (
        # Threads that are done leave their arenas to the kernel, whatever the threshold is.
        (_ARENA_MAX, 1),
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, _TOP_PAD_BYTES),
    )
    refused = [parameter for parameter, value in tuned if not mallopt(parameter, value)]
    return f"off: mallopt refused {refused}" if refused else "on"


def give_back_freed_memory() -> None:
    """Hand all pages of this process that hold nothing to the kernel; some 0.1 s for 1 GB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
