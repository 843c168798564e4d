"""Keep torch and transformers out of the API process.

docling's data models import both only if they are there. With both marked absent before docling's
first import, the models, docling-jobkit's task and orchestrator classes and docling's factories
still import, in a fifth of the memory, and no line of the API process can touch CUDA by accident.
Workers are not affected: a spawned process starts with its own modules, and a fork server is a
spawned process.
"""

from __future__ import annotations

import sys

_HEAVY = ("torch", "transformers")


def leave_out_torch() -> bool:
    """Mark the heavy packages as absent in this process; False if it is too late for that."""
    if any(sys.modules.get(name) is not None for name in _HEAVY):
        return False
    for name in _HEAVY:
        sys.modules[name] = None  # type: ignore[assignment]  # the import system's "absent"
    return True


def is_left_out() -> bool:
    """Whether :func:`leave_out_torch` is in force."""
    return all(name in sys.modules and sys.modules[name] is None for name in _HEAVY)
