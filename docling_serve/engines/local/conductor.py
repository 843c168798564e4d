"""Runs the tasks of the local engine: from their line, through the gate, to their end.

One place changes the state of a task (:meth:`Conductor._move`), and every waiter waits on an event;
nothing polls. A client learns of an end only after it is written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from docling.datamodel.service.tasks import TaskType

from docling_serve.engines.base import TaskView
from docling_serve.engines.local.journal import IllegalMove, Journal, TaskRow
from docling_serve.engines.local.lines import Line, Lines
from docling_serve.engines.local.outcomes import Outcomes, failed_row, outcome_of
from docling_serve.engines.local.states import SETTLED, TRANSITIONS, TaskState
from docling_serve.engines.local.task_record import TaskRecord, moment
from docling_serve.engines.task_end import log_end
from docling_serve.errors import BY_SHUTDOWN, SHUT_DOWN, Failure
from docling_serve.jobs.run_request import Gate, Listeners, RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.jobs.stages import Stage

_log = logging.getLogger(__name__)

NOT_WRITTEN = Failure(
    "internal", "The server could not store the outcome of the task.", retryable=True
)


class Conductor:
    """Moves every accepted task from state to state.

    ``gate`` runs one task to its end; cancelling it stops the work. With ``keep``, tasks that this
    process does not finish are left, *parked*, for the next one.
    """

    def __init__(
        self,
        gate: Gate,
        lines: Lines,
        journal: Journal,
        outcomes: Outcomes,
        *,
        keep: bool,
        on_ended: Callable[[TaskRecord], None],
        on_callback: Callable[[TaskRecord, dict[str, Any]], None],
    ) -> None:
        self._gate = gate
        self._lines = lines
        self._journal = journal
        self._outcomes = outcomes
        self._keep = keep
        self._on_ended = on_ended
        self._on_callback = on_callback
        self._running: set[asyncio.Future[Any]] = set()
        self._handed_over: set[asyncio.Future[Any]] = set()
        self.accepting = True

    async def process(self) -> None:
        """Hand tasks to the runner, each line in its order."""
        await asyncio.gather(*(self._process(line) for line in self._lines.all()))

    def enter(self, record: TaskRecord) -> None:
        """Queue a new task, which has its room in the lines."""
        self._lines.put(record)
        if not self.accepting:  # the server began to shut down meanwhile
            self.cancel(record, SHUT_DOWN)

    async def take_over(self, record: TaskRecord) -> None:
        """Queue a task of an earlier server, which has its room in the lines."""
        if record.state is TaskState.STARTED:
            await self._journal.requeued(record.task_id, counts=True)
            self._move(record, replace(record.row, state=TaskState.QUEUED, started=None))
        self.enter(record)

    def started(self, record: TaskRecord) -> None:
        """The runner reports that work on a task starts."""
        record.waits_in = None
        if record.state is not TaskState.HANDED_OVER:  # it started before, or is being stopped
            return
        record.started_clock = time.monotonic()
        row = record.row
        begun = replace(
            row, state=TaskState.STARTED, started=time.time(), attempts=row.attempts + 1
        )
        self._move(record, begun)

    def request(self, record: TaskRecord) -> RunRequest:
        """The arguments of the gate: the task as it lies in its folder, and its listeners."""
        assert record.spec is not None, "the task has not finished"
        return RunRequest(
            record.spec,
            record.folder,
            record.row.light,
            Listeners(
                on_started=partial(self.started, record),
                on_progress=partial(self._progressed, record),
                on_callback=partial(self._on_callback, record),
                on_waiting=partial(self._waits, record),
            ),
            waiting=self._lines.__len__,
        )

    def cancel(self, record: TaskRecord, failure: Failure) -> None:
        """End an unfinished task with ``failure`` as its cause; the first cause counts."""
        if record.state is TaskState.ENDING or record.state in SETTLED:
            return
        if record.runner is None:
            self._move(record, replace(record.row, state=TaskState.ENDING))
            self.background(self._end(record, failure))
            return
        if record.state is not TaskState.STOPPING:
            record.stopped_with = failure
            self._move(record, replace(record.row, state=TaskState.STOPPING))
        record.runner.cancel()

    def drain(self) -> None:
        """Accept nothing more; waiting tasks are cancelled, or parked. Running ones may finish."""
        self.accepting = False
        for record in self._lines.waiting():
            self.cancel(record, SHUT_DOWN)

    async def finish_running(self, within_s: float) -> None:
        """Wait until the running tasks have finished, at most ``within_s`` seconds."""
        if self._handed_over:
            await asyncio.wait(self._handed_over, timeout=within_s)

    async def settle(self) -> None:
        """Wait until all pending writes are done."""
        while self._running:
            await asyncio.wait(self._running)

    def tell(self, record: TaskRecord) -> None:
        """Notify all who watch ``record`` of its state."""
        if record.watches:
            view = self.view(record)
            for watch in record.watches:
                if watch.latest != view:
                    watch.tell(view)

    def view(self, record: TaskRecord) -> TaskView:
        """The task as it is now."""
        row, line = record.row, self._lines.of(record)
        ahead = line.ahead(record)
        known = ahead is not None and line.times.average_s is not None
        return TaskView(
            task_id=row.task_id,
            task_type=TaskType(row.task_type),
            status=record.status,
            position=self._lines.position(record),
            ahead=ahead,
            expected_wait_s=round(line.times.wait_s(ahead or 0), 1) if known else None,
            waits_in=record.waits_in,
            light=row.light,
            names=row.names,
            cache=None if record.cache_key is None else "hit" if record.from_cache else "miss",
            num_docs=row.num_docs,
            progress=record.progress,
            result=row.result,
            failure=row.failure,
            created_at=moment(row.created),
            started_at=moment(row.started),
            finished_at=moment(row.finished),
        )

    def background(self, work: Any) -> asyncio.Future[Any]:
        """Run ``work`` in the background."""
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._settled)
        return task

    def _waits(self, record: TaskRecord, stage: Stage) -> None:
        record.waits_in = None if stage is Stage.QUEUED else stage
        self.tell(record)

    def _progressed(self, record: TaskRecord, progress: JobProgress) -> None:
        record.progress, record.waits_in = progress, None
        self.tell(record)

    async def _process(self, line: Line) -> None:
        while True:
            await line.hands.acquire()
            record = await line.take()
            self._move(record, replace(record.row, state=TaskState.HANDED_OVER))
            record.runner = asyncio.ensure_future(self._gate(self.request(record)))
            conducted = self.background(self._conduct(line, record, record.runner))
            self._handed_over.add(conducted)
            conducted.add_done_callback(self._handed_over.discard)

    async def _conduct(
        self, line: Line, record: TaskRecord, runner: asyncio.Future[JobResult]
    ) -> None:
        """Follow a task that was handed over to its end."""
        await asyncio.wait({runner})
        if record.started_clock is not None and not runner.cancelled():
            line.times.ended(time.monotonic() - record.started_clock)
        self._move(record, replace(record.row, state=TaskState.ENDING))
        line.hands.release()
        await self._end(record, outcome_of(record))

    async def _end(self, record: TaskRecord, outcome: JobResult | Failure) -> None:
        """Write how a task in ``ENDING`` ended, then report it."""
        if isinstance(outcome, Failure) and self._goes_on_later(record, outcome):
            await self._park(record, counts=outcome.details.get("reason") != BY_SHUTDOWN)
            return
        try:
            ended = await self._outcomes.write(record, outcome)
        except Exception:  # noqa: BLE001 - a bug in there; no client may wait forever
            _log.exception("task %s: its outcome is not in the journal", record.task_id)
            ended = failed_row(record.row, NOT_WRITTEN, time.time())
            self._outcomes.write_later(record, NOT_WRITTEN)
        # Finished tasks may be kept for days; their options are not needed again.
        record.spec = None
        self._move(record, ended)

    def _goes_on_later(self, record: TaskRecord, failure: Failure) -> bool:
        """Whether to leave the task to the next server: this one shuts down, and found no fault in
        the task itself."""
        asked_for_again = record.row.idempotency_key is not None or not record.row.attached
        return self._keep and not self.accepting and failure.retryable and asked_for_again

    async def _park(self, record: TaskRecord, *, counts: bool) -> None:
        if record.row.started is not None:
            try:
                await self._journal.requeued(record.task_id, counts=counts)
            except (OSError, IllegalMove) as exc:
                # The next server then treats it as interrupted, or as never started.
                _log.warning("task %s: %s", record.task_id, exc)
        self._move(record, replace(record.row, state=TaskState.PARKED, started=None))

    def _move(self, record: TaskRecord, row: TaskRow) -> None:
        """The one place where a task's state changes: ``row`` is its new state.

        A start is written in the background. Other changes the journal needs were written before.
        """
        before, to = record.row, row.state
        if to not in TRANSITIONS[before.state]:
            raise AssertionError(f"task {row.task_id}: {before.state.value} to {to.value}")
        record.row = row
        _log.debug("task %s: %s -> %s", row.task_id, before.state.value, to.value)
        if to in SETTLED:
            record.settle()
        moves_up = to in (TaskState.STARTED, TaskState.ENDING)
        if to is TaskState.STARTED:
            self._lines.started(record)
            assert row.started is not None
            # Not waited for: if the server dies before this write, the attempt does not count.
            self.background(self._journal.started(row.task_id, row.started))
        elif to is TaskState.ENDING:
            self._lines.left(record)
        if to is TaskState.STARTED or to.finished:
            self.tell(record)
        elif to is TaskState.PARKED:
            for watch in record.watches:
                watch.close()
        if to.finished:
            _log_end(row)
            self._on_ended(record)
        if moves_up:
            for other in self._lines.of(record).waiting():
                self.tell(other)

    def _settled(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, OSError):  # the disk is full: dependants report it
                _log.warning("a write failed: %s", error)
            else:
                _log.error("background work of the engine failed", exc_info=error)


def _log_end(row: TaskRow) -> None:
    assert row.finished is not None
    log_end(
        *(_log, row.task_id, row.failure),
        accepted=row.created,
        started=row.started,
        ended=row.finished,
    )
