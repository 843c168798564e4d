"""A job in the pool: its request, its progress and its clocks; and the queue of waiting jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docling_serve.errors import Failure, TaskFailed, TaskTimedOut
from docling_serve.jobs.run_request import Listeners
from docling_serve.jobs.spec import JobProgress, JobResult, TaskFolder
from docling_serve.jobs.stages import Stage
from docling_serve.subprocess_worker.pool.exits import Ending
from docling_serve.subprocess_worker.pool.job_folders import HandOver
from docling_serve.subprocess_worker.pool.states import StopReason
from docling_serve.subprocess_worker.protocol.messages import Run

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """One task in the pool, from hand-over until its future is done; a retry is a new attempt.

    ``light``: it needs no models. ``kind`` is equal for jobs that need the same ones. ``stall_s``
    limits the time between two signs of progress, 0 for no limit. ``goes_on``: it continues a task
    that has already started, so it is not new work. ``network``: it has to reach another machine.
    """

    number: int
    task_id: str
    folder: TaskFolder
    timeout_s: float
    stall_s: float
    light: bool
    kind: str
    future: asyncio.Future[JobResult]
    listeners: Listeners
    hand_over: HandOver
    network: bool = False
    goes_on: bool = False
    #: The setting that ``timeout_s`` comes from.
    timeout_setting: str = "subprocess_timeout"
    submitted: float = field(default_factory=time.monotonic)
    attempts: int = 0
    worker: int | None = None
    #: Why it is not running yet, in words for a person.
    waits_for: str | None = None
    #: The last stage reported while no worker had it.
    waits_in: Stage = Stage.QUEUED
    progress: JobProgress | None = None
    #: The outcome of the job once its worker, stopped because of it, is gone.
    verdict: TaskFailed | None = None
    _limit: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def begin(self, worker: int, stop: Callable[[Job, StopReason], None]) -> None:
        """An attempt starts; ``stop`` is called when one of its limits is reached."""
        self.worker = worker
        self.waits_for = None
        self.waits_in = Stage.QUEUED
        self.attempts += 1
        self.progress = None
        loop = asyncio.get_running_loop()
        self._limit = loop.call_later(self.timeout_s, stop, self, StopReason.TIMED_OUT)
        self._stop = stop
        self._watch_stall()

    def waits(self, stage: Stage, reason: str | None = None) -> None:
        """It waits in ``stage``, for ``reason`` if there is one."""
        if reason is not None and self.waits_for != reason:
            _log.debug("task %s waits: %s", self.task_id, reason)
        self.waits_for = reason
        if self.waits_in is not stage:
            self.waits_in = stage
            self.listeners.on_waiting(stage)

    def given_to(self, folder: Path) -> bool:
        """Put its files where its worker finds them; False if that ended the job, because the disk
        is full or the folder is gone."""
        try:
            self.hand_over.to(folder)
        except OSError as exc:
            if not self.future.done():
                self.future.set_exception(exc)
            return False
        return True

    def order(self, device: str | None) -> Run:
        """The message that makes its worker run it, on GPU ``device``."""
        inputs, output = str(self.hand_over.inputs), str(self.hand_over.output)
        return Run(
            job=self.number, folder=inputs, output=output, device=device, network=self.network
        )

    def progressed(self, progress: JobProgress) -> None:
        """The worker is at ``progress``."""
        self.progress = progress
        self._watch_stall()

    def end_attempt(self) -> None:
        """The attempt is over: its clocks stop."""
        self.worker = None
        for timer in (self._limit, self._stall):
            if timer is not None:
                timer.cancel()

    def settle(self, outcome: JobResult | TaskFailed) -> None:
        """End the job; later outcomes are ignored."""
        self.end_attempt()
        if self.future.done():
            return
        if isinstance(outcome, TaskFailed):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def overhead_s(self, result: JobResult) -> float:
        """The seconds since the hand-over that were not spent converting."""
        return max(0.0, time.monotonic() - self.submitted - result.processing_time)

    def over_limit(self, reason: StopReason) -> TaskTimedOut:
        """The outcome of the job when it is stopped at a time limit."""
        done, total = self._count()
        if reason is StopReason.STALLED:
            return stopped_at("subprocess_stall_timeout", self.stall_s, done, total)
        return stopped_at(self.timeout_setting, self.timeout_s, done, total)

    def over_memory(self, taken_bytes: int, limit_bytes: int) -> TaskFailed:
        """The outcome of the job when its worker is stopped at a memory limit."""
        done, total = self._count()
        return TaskFailed(
            Failure(
                "capacity",
                f"The task was stopped: its worker process used {taken_bytes / 2**20:.0f} MiB of"
                f" memory, the limit is {limit_bytes / 2**20:.0f} MiB (subprocess_memory_limit),"
                f" {_pages(done, total)} done.",
                retryable=False,
                details={"limit": "subprocess_memory_limit", "pages": str(done)},
            )
        )

    def _count(self) -> tuple[int, int]:
        if self.progress is None:
            return 0, 0
        return self.progress.completed_pages, self.progress.total_pages

    def _watch_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        if self.stall_s > 0:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self.stall_s, self._stop, self, StopReason.STALLED)


def stopped_at(
    setting: str,
    seconds: float,
    done: int,
    total: int,
) -> TaskTimedOut:
    """The outcome of a job stopped at the limit ``setting`` of ``seconds``, with ``done`` pages of
    ``total``, which is 0 if unknown."""
    stalled = setting == "subprocess_stall_timeout"
    what = "without progress for" if stalled else "still running after"
    return TaskTimedOut(
        Failure(
            "timeout",
            f"The task was stopped: {what} {seconds:g} s ({setting}), {_pages(done, total)} done.",
            retryable=False,
            details={"limit": setting, "pages": str(done)},
        )
    )


def _pages(done: int, total: int) -> str:
    return f"{done} of {total} pages" if total else f"{done} pages"


class WaitingJobs:
    """Two queues, one of them for jobs without models."""

    def __init__(self) -> None:
        self._lines: dict[bool, deque[Job]] = {False: deque(), True: deque()}  # by job.light
        self._busy_since = {False: 0.0, True: 0.0}

    def counts(self) -> dict[str, int]:
        """How many wait in each queue, by the names that snapshots use."""
        return {"waiting": len(self._lines[False]), "waiting_light": len(self._lines[True])}

    def view(self) -> dict[str, Any]:
        """The counts, and since when each queue was never empty, by scheduling's names."""
        return {
            **self.counts(),
            "waiting_since": self._busy_since[False],
            "waiting_light_since": self._busy_since[True],
            "network": [job.network for job in self._lines[False]],
            "network_light": [job.network for job in self._lines[True]],
        }

    def append(self, job: Job) -> None:
        """``job`` waits behind the others."""
        self._line_for(job).append(job)

    def put_first(self, job: Job) -> None:
        """``job`` waits ahead of the others: it has waited already."""
        self._line_for(job).appendleft(job)

    def take(self, *, light: bool) -> Job:
        """Remove and return the job that waits longest."""
        return self._lines[light].popleft()

    def note_starts(self, heavy: int, light: int) -> None:
        """Workers are being started for this many jobs at the front of each queue."""
        for is_light, count in ((False, heavy), (True, light)):
            for index, job in enumerate(self._lines[is_light]):
                job.waits(Stage.STARTING_WORKER if index < count else Stage.QUEUED)

    def remove(self, job: Job) -> bool:
        """Remove ``job`` from its queue; False if it was not waiting."""
        line = self._lines[job.light]
        waits = job in line
        if waits:
            line.remove(job)
        return waits

    def fail(self, reason: StopReason, stays: Callable[[Job], bool] = lambda _: False) -> None:
        """End all waiting jobs, except for those that may stay."""
        for line in self._lines.values():
            for job in [job for job in line if not stays(job)]:
                line.remove(job)
                job.settle(TaskFailed(Ending(None, reason).failure()))

    def _line_for(self, job: Job) -> deque[Job]:
        """The queue that ``job`` is about to join."""
        line = self._lines[job.light]
        if not line:
            self._busy_since[job.light] = time.monotonic()
        return line
