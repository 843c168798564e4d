"""Runs the tasks of the local engine: from their line, through the runner, to their end.

One place changes the state of a task (:meth:`Conductor._move`), and everybody who waits for one
waits on an event; nothing polls. What a client is told of an end has been written before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import TaskView
from docling_serve.engines.local.journal import IllegalMove, Journal
from docling_serve.engines.local.lines import Line, Lines
from docling_serve.engines.local.outcomes import Outcomes, outcome_of
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import BY_SHUTDOWN, SHUT_DOWN, Failure
from docling_serve.jobs import JobResult
from docling_serve.rendering import public_failure

_log = logging.getLogger(__name__)

NOT_WRITTEN = Failure("internal", "The server could not write how the task ended.", retryable=True)


class Conductor:
    """The only one that changes a task once it was accepted.

    ``run`` runs one task to its end; cancelling it stops the work. With ``keep`` the tasks that
    this process does not end are left, *parked*, for the next one.
    """

    def __init__(
        self,
        run: Callable[[Task], Awaitable[JobResult]],
        lines: Lines,
        journal: Journal,
        outcomes: Outcomes,
        *,
        keep: bool,
        on_ended: Callable[[TaskRecord], None],
    ) -> None:
        self._run = run
        self._lines = lines
        self._journal = journal
        self._outcomes = outcomes
        self._keep = keep
        self._on_ended = on_ended
        self._running: set[asyncio.Future[Any]] = set()
        self._handed_over: set[asyncio.Future[Any]] = set()
        self.accepting = True

    async def process(self) -> None:
        """Hand tasks to the runner, each line in its order."""
        await asyncio.gather(*(self._process(line) for line in self._lines.all()))

    def enter(self, record: TaskRecord) -> None:
        """A task that has its room in the lines waits from now on."""
        self._lines.put(record)
        if not self.accepting:  # the end came meanwhile
            self.cancel(record, SHUT_DOWN)

    def started(self, record: TaskRecord) -> None:
        """The runner says that the work on a task begins."""
        if record.task.task_status is not TaskStatus.PENDING:
            return
        record.attempts += 1
        record.started_clock = time.monotonic()
        self._lines.started(record)
        # Not waited for: should this be lost with the server, the attempt does not count.
        self.background(self._journal.started(record.task.task_id, time.time()))
        self._move(record, TaskStatus.STARTED)

    def cancel(self, record: TaskRecord, failure: Failure) -> None:
        """End a task that has not ended, with ``failure`` as its cause."""
        if record.finished or record.ending:
            return
        record.cancelled_with = failure
        if record.runner is not None:
            record.runner.cancel()
        else:
            record.ending = True
            self._lines.left(record)
            self.background(self._end(record, failure))

    def drain(self) -> None:
        """Take in nothing more; what waits is given up, or parked. What runs may finish."""
        self.accepting = False
        for record in self._lines.waiting():
            self.cancel(record, SHUT_DOWN)

    async def finish_running(self, within_s: float) -> None:
        """Wait until the tasks that run have ended, at most ``within_s`` seconds."""
        if self._handed_over:
            await asyncio.wait(self._handed_over, timeout=within_s)

    async def settle(self) -> None:
        """Wait until everything that was begun is written."""
        while self._running:
            await asyncio.wait(self._running)

    def tell(self, record: TaskRecord) -> None:
        """Tell whoever waits for ``record`` or watches it how it stands."""
        record.changed()
        if record.watches:
            view = self.view(record)
            for watch in record.watches:
                watch.tell(view)

    def view(self, record: TaskRecord) -> TaskView:
        """The task as it is now."""
        task = record.task
        waits = task.task_status is TaskStatus.PENDING
        return TaskView(
            task_id=task.task_id,
            task_type=task.task_type,
            status=task.task_status,
            position=self._lines.position(record) if waits else None,
            num_docs=record.num_docs,
            progress=record.progress,
            result=record.result,
            failure=record.failure,
            created_at=task.created_at,
            started_at=task.started_at,
            finished_at=task.finished_at,
        )

    def background(self, work: Any) -> asyncio.Future[Any]:
        """Have ``work`` done, and nobody wait for it."""
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._settled)
        return task

    async def _process(self, line: Line) -> None:
        while True:
            await line.hands.acquire()
            record = await line.take()
            record.runner = asyncio.ensure_future(self._run(record.task))
            conducted = self.background(self._conduct(line, record, record.runner))
            self._handed_over.add(conducted)
            conducted.add_done_callback(self._handed_over.discard)

    async def _conduct(
        self, line: Line, record: TaskRecord, runner: asyncio.Future[JobResult]
    ) -> None:
        """See a task that was handed over to its end."""
        await asyncio.wait({runner})
        if record.started_clock is not None and not runner.cancelled():
            line.times.ended(time.monotonic() - record.started_clock)
        line.hands.release()
        await self._end(record, outcome_of(record))

    async def _end(self, record: TaskRecord, outcome: JobResult | Failure) -> None:
        """Write how a task ended, then tell it."""
        record.ending = True
        if isinstance(outcome, Failure) and self._goes_on_later(record, outcome):
            await self._park(record, counts=outcome.details.get("reason") != BY_SHUTDOWN)
            return
        try:
            record.failure = await self._outcomes.write(record, outcome)
        except Exception:  # noqa: BLE001 - a mistake in there; nobody may wait for ever
            _log.exception("task %s: its end is not in the journal", record.task.task_id)
            record.result, record.failure = None, NOT_WRITTEN
            self._outcomes.write_later(record, NOT_WRITTEN)
        self._lines.left(record)
        # Finished tasks may be kept for days; nobody asks for their options again.
        record.spec = record.task.convert_options = None
        self._move(record, TaskStatus.FAILURE if record.failure else TaskStatus.SUCCESS)

    def _goes_on_later(self, record: TaskRecord, failure: Failure) -> bool:
        """Whether the task is for the next server: this one ends, and did not come to know of any
        fault in the task itself."""
        asked_for_again = record.idempotency_key is not None or not record.attached
        return self._keep and not self.accepting and failure.retryable and asked_for_again

    async def _park(self, record: TaskRecord, *, counts: bool) -> None:
        if record.task.task_status is TaskStatus.STARTED:
            try:
                await self._journal.requeued(record.task.task_id, counts=counts)
            except (OSError, IllegalMove) as exc:
                # Then the next server takes it for one that was cut off, or never began.
                _log.warning("task %s: %s", record.task.task_id, exc)
        self._lines.left(record)
        record.parked = True
        _log.info("task %s: left for the next start", record.task.task_id)
        record.changed()
        for watch in record.watches:
            watch.close()

    def _move(self, record: TaskRecord, status: TaskStatus) -> None:
        """The one place where a task's state changes."""
        task = record.task
        if record.finished or task.task_status is status:
            return
        waited = task.task_status is TaskStatus.PENDING
        task.set_status(status)
        if record.failure is not None:
            task.error_message = record.failure.message
            task.failure = public_failure(record.failure)
        _log.info(
            "task %s: %s%s",
            task.task_id,
            status.value,
            f" ({record.failure.category}: {record.failure.message})" if record.failure else "",
        )
        self.tell(record)
        if record.finished:
            self._on_ended(record)
        if waited:
            for other in self._lines.of(record).waiting():  # whoever waited behind it moves up
                self.tell(other)

    def _settled(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, OSError):  # the disk is full: what depends on it says so itself
                _log.warning("something could not be written: %s", error)
            else:
                _log.error("an engine's work failed", exc_info=error)
