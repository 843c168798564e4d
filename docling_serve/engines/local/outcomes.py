"""How a task's attempt ended, and what is written about it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.journal import IllegalMove, Journal, TaskRow
from docling_serve.engines.local.result_cache import ResultCache
from docling_serve.engines.local.states import TaskState
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import (
    DISK_FULL,
    SHUT_DOWN,
    Failure,
    ShuttingDown,
    TaskFailed,
    disk_is_full,
)
from docling_serve.jobs.spec import JobResult

_log = logging.getLogger(__name__)


def outcome_of(record: TaskRecord) -> JobResult | Failure:
    """The outcome of the runner of ``record``, which is done."""
    runner = record.runner
    assert runner is not None
    if runner.cancelled():
        return record.stopped_with or SHUT_DOWN
    error = runner.exception()
    if error is None:
        return runner.result()
    return record.stopped_with or _failure_of(record.task_id, error)


def _failure_of(task_id: str, error: BaseException) -> Failure:
    if isinstance(error, TaskFailed):
        return error.failure
    if isinstance(error, ShuttingDown):
        return SHUT_DOWN
    if disk_is_full(error):
        return DISK_FULL
    # A bug in the runner must end this task and nothing else.
    _log.error("task %s: the server failed to run it", task_id, exc_info=error)
    return Failure("internal", f"The server failed to run the task ({type(error).__name__}).")


class Outcomes:
    """Writes the end of tasks, files first. A client learns of an end only afterwards."""

    def __init__(self, journal: Journal, disk: Disk, cache: ResultCache | None = None) -> None:
        self._journal = journal
        self._cache = cache
        self._disk = disk
        #: Failures already reported to clients and not yet in the journal, since the disk was full;
        #: None for a task that was deleted.
        self._unwritten: dict[str, Failure | None] = {}
        self._writing_again = asyncio.Lock()

    async def write(self, record: TaskRecord, outcome: JobResult | Failure) -> TaskRow:
        """Store ``outcome``; returns the new row of the task.

        A result that cannot be stored is a failure; its files are deleted, which frees space for
        recording that.
        """
        if isinstance(outcome, JobResult):
            try:
                ended = await self._keep_result(record, outcome)
            except OSError as exc:
                _log.error("task %s: its result cannot be kept: %s", record.task_id, exc)
                outcome = _not_kept(exc)
            else:
                await self._keep_for_others(record, outcome, ended.result_bytes)
                await asyncio.to_thread(record.folder.drop_inputs)
                return ended
        return await self._write_failure(record, outcome)

    def write_later(self, record: TaskRecord, failure: Failure) -> None:
        """Queue ``failure`` for writing; clients know of it already."""
        self._unwritten[record.task_id] = failure

    async def write_again(self) -> None:
        """Retry the writes that failed."""
        async with self._writing_again:
            for task_id, failure in list(self._unwritten.items()):
                try:
                    if failure is None:
                        await self._journal.forget(task_id)
                    else:
                        await self._journal.failed(task_id, failure, time.time())
                except OSError:
                    return
                except IllegalMove:  # deleted, or written, meanwhile
                    pass
                if self._unwritten.get(task_id) is failure:
                    del self._unwritten[task_id]

    async def forget(self, task_id: str) -> None:
        """Drop a task from the journal, now or as soon as it can be written."""
        try:
            await self._journal.forget(task_id)
        except OSError as exc:
            _log.warning("task %s: it is still in the journal: %s", task_id, exc)
            self._unwritten[task_id] = None
        else:
            self._unwritten.pop(task_id, None)

    async def _keep_result(self, record: TaskRecord, result: JobResult) -> TaskRow:
        body = record.folder.root / result.body

        if self._disk.syncs:
            await asyncio.to_thread(self._sync, body)
        size = body.stat().st_size
        now = time.time()
        await self._journal.succeeded(record.task_id, result, size, now)
        return replace(
            record.row, state=TaskState.SUCCESS, finished=now, result=result, result_bytes=size
        )

    async def _keep_for_others(self, record: TaskRecord, result: JobResult, size: int) -> None:
        if self._cache is not None and record.cache_key is not None:
            body = record.folder.root / result.body
            await self._cache.keep(record.cache_key, record.task_id, result, body, size)

    def _sync(self, body: Path) -> None:
        self._disk.sync_file(body)
        self._disk.sync_folder(body.parent)

    async def _write_failure(self, record: TaskRecord, failure: Failure) -> TaskRow:
        task_id = record.task_id
        ended = failed_row(record.row, failure, now := time.time())
        try:
            await self._journal.failed(task_id, failure, now)
        except OSError as exc:
            _log.warning("task %s: its failure is not in the journal yet: %s", task_id, exc)
            self._unwritten[task_id] = failure
        await asyncio.to_thread(record.folder.remove)
        if task_id in self._unwritten:
            await self.write_again()
        return ended


def failed_row(row: TaskRow, failure: Failure, at: float) -> TaskRow:
    """``row`` after its task has failed with ``failure``, at ``at`` in seconds since 1970."""
    return replace(row, state=TaskState.FAILURE, finished=at, failure=failure)


def _not_kept(exc: OSError) -> Failure:
    if disk_is_full(exc):
        return DISK_FULL
    return Failure("internal", "The server could not keep the result.", retryable=True)
