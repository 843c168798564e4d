"""Reads the memory of busy workers at intervals, for the limit and for metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from docling_serve.subprocess_worker.pool.memory import tree_rss
from docling_serve.subprocess_worker.pool.worker import Worker

_INTERVAL_S = 1.0


class MemorySampler:
    """Reads the memory of busy workers once a second, as long as there are any."""

    def __init__(
        self,
        busy: Callable[[], Iterable[Worker]],
        limit_bytes: int,
        over_limit: Callable[[Worker], None],
    ) -> None:
        """``over_limit`` is called with each worker above ``limit_bytes``; 0 means no limit."""
        self._busy = busy
        self._limit_bytes = limit_bytes
        self._over_limit = over_limit
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Read within a second, and then every second until no worker is busy. Most jobs finish
        before that; what a worker holds then is read at the end of its job."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._read)

    def _read(self) -> None:
        self._timer = None
        busy = [worker for worker in self._busy() if worker.pid is not None]
        for worker in busy:
            assert worker.pid is not None
            worker.memory.note(tree_rss(worker.pid))
            if 0 < self._limit_bytes < worker.memory.current:
                self._over_limit(worker)
        if busy:
            self.run()
