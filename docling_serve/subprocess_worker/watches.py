"""Two clocks of the pool: how often memory is read, and when a failed start may be repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from docling_serve.subprocess_worker.memory import tree_rss
from docling_serve.subprocess_worker.worker import Worker

_MEMORY_WATCH_S = 1.0
_MAX_BACKOFF_S = 30.0


class MemoryWatch:
    """Reads the memory of busy workers once a second, as long as there are any."""

    def __init__(
        self,
        busy: Callable[[], Iterable[Worker]],
        limit_bytes: int,
        over_limit: Callable[[Worker], None],
    ) -> None:
        self._busy = busy
        self._limit_bytes = limit_bytes
        self._over_limit = over_limit
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Read now, and again in a second if a worker is busy then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        busy = [worker for worker in self._busy() if worker.pid is not None]
        for worker in busy:
            assert worker.pid is not None
            worker.memory.note(tree_rss(worker.pid))
            if 0 < self._limit_bytes < worker.memory.current:
                self._over_limit(worker)
        if busy:
            self._timer = asyncio.get_running_loop().call_later(_MEMORY_WATCH_S, self.run)


class StartBackoff:
    """Counts starts that failed in a row, and says from when on another may be tried."""

    def __init__(self) -> None:
        self.failures = 0
        self.no_start_before = 0.0

    def failed(self) -> None:
        """A start failed: wait twice as long as the last time."""
        self.failures += 1
        delay = min(_MAX_BACKOFF_S, 0.5 * 2.0**self.failures)
        self.no_start_before = time.monotonic() + delay

    def succeeded(self) -> None:
        """A worker became ready."""
        self.failures = 0
