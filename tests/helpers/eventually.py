"""Wait for something that happens outside this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
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


def longer_and_longer(first_s: float = 0.25) -> Iterator[float]:
    """Limits to try, in seconds, for something that has to be at work when its limit ends.

    On a busy machine it may not be by then; it gets twice the time, up to a minute.

    Raises:
        AssertionError: it was at work at none of them.
    """
    limit_s = first_s
    while limit_s <= 60:
        yield limit_s
        limit_s *= 2
    raise AssertionError("it was not at work at any limit")
