"""Make child interpreters find our package where this process found it.

``python -c`` and ``python -m`` search the working directory first. In a checkout of another
docling-serve, or in upstream's image, that contains a ``docling_serve`` folder that is not ours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_HOME = Path(__file__).parents[2]
_VARIABLE = "PYTHONSAFEPATH"  # read by Python 3.11 and newer


def safe_path() -> dict[str, str]:
    """The variable that keeps a child from searching there; empty if our package itself was found
    in the working directory. Python 3.10 does not know the variable."""
    return {} if Path.cwd() == _HOME else {_VARIABLE: "1"}


@contextlib.contextmanager
def safe_path_for_children() -> Iterator[None]:
    """Make children that start meanwhile inherit it. Not for use by two threads at once."""
    before = os.environ.get(_VARIABLE)
    os.environ.update(safe_path())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
