"""The jobs that wait for a worker."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from docling_serve.errors import TaskFailed
from docling_serve.subprocess_worker.exits import Ending
from docling_serve.subprocess_worker.job import Job
from docling_serve.subprocess_worker.states import StopReason


class WaitingJobs:
    """Two lines, one of them for jobs without models."""

    def __init__(self) -> None:
        self._lines: dict[bool, deque[Job]] = {False: deque(), True: deque()}  # by job.light
        self._busy_since = {False: 0.0, True: 0.0}

    def counts(self) -> dict[str, int]:
        """How many wait in each line, as snapshots call them."""
        return {"waiting": len(self._lines[False]), "waiting_light": len(self._lines[True])}

    def view(self) -> dict[str, Any]:
        """The counts, and since when each line was never empty, as scheduling calls them."""
        return {
            **self.counts(),
            "waiting_since": self._busy_since[False],
            "waiting_light_since": self._busy_since[True],
        }

    def append(self, job: Job) -> None:
        """``job`` waits behind the others."""
        self._line_for(job).append(job)

    def put_first(self, job: Job) -> None:
        """``job`` waits before the others: it has waited already."""
        self._line_for(job).appendleft(job)

    def take(self, *, light: bool) -> Job:
        """The job that waits longest waits no more."""
        return self._lines[light].popleft()

    def remove(self, job: Job) -> bool:
        """``job`` waits no more; False if it did not."""
        line = self._lines[job.light]
        waits = job in line
        if waits:
            line.remove(job)
        return waits

    def fail(self, reason: StopReason, stays: Callable[[Job], bool] = lambda _: False) -> None:
        """End all that wait, but for those that may stay."""
        for line in self._lines.values():
            for job in [job for job in line if not stays(job)]:
                line.remove(job)
                job.settle(TaskFailed(Ending(None, reason).failure()))

    def _line_for(self, job: Job) -> deque[Job]:
        """The line that ``job`` is about to join."""
        line = self._lines[job.light]
        if not line:
            self._busy_since[job.light] = time.monotonic()
        return line
