"""Wait for something that happens outside this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    check: Callable[[], T],
    *,
    within_s: float,
    what: str | Callable[[], str] = "",
    every_s: float = 0.05,
) -> T:
    """Call ``check`` until it returns something true, and return that.

    ``within_s`` is there to end a hang, not to measure: choose it far beyond the usual time.

    Raises:
        AssertionError: the time is up; the text has ``what`` and the last value.
    """
    pause = threading.Event()
    deadline = time.monotonic() + within_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {within_s:g} s: {text}; last: {value!r}")
        pause.wait(every_s)
