"""How long tasks take, learned from finished ones, and the resulting wait of queued ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_WEIGHT = 0.2
#: Assumed until a first task has finished.
_UNKNOWN_S = 5.0
_LONGEST_S = 3600.0


class ServiceTimes:
    """A moving average of the seconds a task holds one of ``workers``.

    The average follows the newest tasks: the last ten make up nine tenths of it.
    """

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.workers = max(1, workers)
        self._clock = clock
        self._average_s: float | None = None
        self._promised_until = 0.0

    @property
    def average_s(self) -> float | None:
        """Seconds a task takes; None before one has finished."""
        return self._average_s

    def ended(self, seconds: float) -> None:
        """Record that a task has held a worker for ``seconds``."""
        before = seconds if self._average_s is None else self._average_s
        self._average_s = before + _WEIGHT * (seconds - before)

    def wait_s(self, places: int) -> float:
        """Seconds until ``places`` tasks have left the queue."""
        return places * self._seconds_a_place()

    def retry_after_s(self, places: int, queued: int) -> int:
        """When to retry after a refusal: once ``places`` tasks have left the queue.

        Each refused client gets a slot of its own, one place later than the last, so that retries
        are not refused again because of each other. No client is sent beyond the end of what is
        queued now.
        """
        now = self._clock()
        step = self._seconds_a_place()
        horizon = now + self.wait_s(max(places, queued))
        due = min(max(now + self.wait_s(places), self._promised_until + step), horizon)
        self._promised_until = due
        return max(1, math.ceil(min(due - now, _LONGEST_S)))

    def _seconds_a_place(self) -> float:
        average = _UNKNOWN_S if self._average_s is None else self._average_s
        return average / self.workers
