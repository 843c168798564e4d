"""Whether torch used CUDA before this process was forked.

Read from torch 2.15 (``torch.cuda``: ``_initialized``, ``_is_in_bad_fork``).
Guarded by tests/unit/subprocess_worker/child/test_template.py.
"""

from __future__ import annotations

import sys
from typing import Any

from docling_serve.process.deferred_imports import is_loaded


def called_driver_before_fork() -> bool:
    """Imports nothing: False where torch itself is not loaded."""
    cuda: Any = sys.modules.get("torch.cuda") if is_loaded("torch") else None
    # After the fork is_initialized() is false, and the flag for a bad fork is set.
    return cuda is not None and bool(cuda._initialized or cuda._is_in_bad_fork())
