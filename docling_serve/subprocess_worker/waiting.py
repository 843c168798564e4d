"""The jobs that wait for a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from docling_serve.errors import TaskFailed
from docling_serve.subprocess_worker.exits import Ending
from docling_serve.subprocess_worker.job import Job
from docling_serve.subprocess_worker.states import StopReason


class WaitingJobs:
    """Two lines, one of them for jobs without models."""

    def __init__(self) -> None:
        self._lines: dict[bool, deque[Job]] = {False: deque(), True: deque()}  # by job.light

    def counts(self) -> dict[str, int]:
        """How many wait in each line, as snapshots call them."""
        return {"waiting": len(self._lines[False]), "waiting_light": len(self._lines[True])}

    def append(self, job: Job) -> None:
        """``job`` waits behind the others."""
        self._lines[job.light].append(job)

    def put_first(self, job: Job) -> None:
        """``job`` waits before the others: it has waited already."""
        self._lines[job.light].appendleft(job)

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
