"""A job in the pool: what was asked for, how far it is, its clocks; and the jobs that wait."""

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
    """One task in the pool, from hand-over to its future's end; a retry is a new attempt of it.

    ``light`` says that it needs no models, ``kind`` is the same for jobs that need the same ones.
    ``stall_s`` limits the time between two signs of progress, 0 for no limit. One that ``goes_on``
    with a task that has begun is no new work. With ``network`` it has to reach another machine.
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
    #: The stage that was reported last while no worker had it.
    waits_in: Stage = Stage.QUEUED
    progress: JobProgress | None = None
    #: What the job ends with once its worker, stopped for this, is gone.
    verdict: TaskFailed | None = None
    _limit: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def begin(self, worker: int, stop: Callable[[Job, StopReason], None]) -> None:
        """An attempt begins; ``stop`` is called when one of its limits is reached."""
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
        """It waits in ``stage``, for ``reason`` if there is one to give."""
        if reason is not None and self.waits_for != reason:
            _log.debug("task %s waits: %s", self.task_id, reason)
        self.waits_for = reason
        if self.waits_in is not stage:
            self.waits_in = stage
            self.listeners.on_waiting(stage)

    def given_to(self, folder: Path) -> bool:
        """Put its files where its worker finds them; False if that ended the job, since the disk
        is full or the folder is gone."""
        try:
            self.hand_over.to(folder)
        except OSError as exc:
            if not self.future.done():
                self.future.set_exception(exc)
            return False
        return True

    def order(self, device: str | None) -> Run:
        """What tells its worker to run it, on GPU ``device``."""
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
        """End the job; what comes after that is ignored."""
        self.end_attempt()
        if self.future.done():
            return
        if isinstance(outcome, TaskFailed):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def overhead_s(self, result: JobResult) -> float:
        """The seconds since the hand-over in which it was not converted."""
        return max(0.0, time.monotonic() - self.submitted - result.processing_time)

    def over_limit(self, reason: StopReason) -> TaskTimedOut:
        """What the job ends with when it is stopped at a limit of time."""
        done, total = self._count()
        if reason is StopReason.STALLED:
            return stopped_at("subprocess_stall_timeout", self.stall_s, done, total)
        return stopped_at(self.timeout_setting, self.timeout_s, done, total)

    def over_memory(self, taken_bytes: int, limit_bytes: int) -> TaskFailed:
        """What the job ends with when its worker is stopped at a limit of memory."""
        done, total = self._count()
        return TaskFailed(
            Failure(
                "capacity",
                f"The task was stopped: its worker process took {taken_bytes / 2**20:.0f} MiB of"
                f" memory, allowed are {limit_bytes / 2**20:.0f} MiB (subprocess_memory_limit),"
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
    """What a job ends with at the limit ``setting`` of ``seconds``, with ``done`` pages of
    ``total``, 0 where nobody knows how many there are."""
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
    return f"{done} of {total or 'unknown'} pages"


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

    def note_starts(self, heavy: int, light: int) -> None:
        """Workers are being started for so many jobs at the front of each line."""
        for is_light, count in ((False, heavy), (True, light)):
            for index, job in enumerate(self._lines[is_light]):
                job.waits(Stage.STARTING_WORKER if index < count else Stage.QUEUED)

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
