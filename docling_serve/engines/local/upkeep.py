"""Timed work of the engine: remove expired results, end tasks that wait too long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from docling_serve.engines.local.journal import TaskRow
from docling_serve.engines.local.lines import Lines
from docling_serve.engines.local.outcomes import Outcomes
from docling_serve.engines.local.result_cache import ResultCache
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import Failure

_log = logging.getLogger(__name__)

_ROUND_S = 5.0


@dataclass(frozen=True)
class RetentionRules:
    """0 means no limit. ``max_age_s`` counts from the end of a task, read or not."""

    max_age_s: float = 0.0
    max_bytes: int = 0

    def to_remove(self, tasks: Iterable[TaskRow], now: float) -> list[TaskRow]:
        """The finished tasks that are too old; then, until the rest fits, results that a client has
        read, then unread ones, the oldest first."""
        oldest_first = sorted(tasks, key=_finished)
        oldest_kept = now - self.max_age_s if self.max_age_s else float("-inf")
        gone = [task for task in oldest_first if _finished(task) < oldest_kept]
        kept = oldest_first[len(gone) :]
        excess = sum(task.result_bytes for task in kept) - self.max_bytes
        if not self.max_bytes or excess <= 0:
            return gone
        for task in sorted(kept, key=lambda task: (task.fetched is None, _finished(task))):
            if excess <= 0:
                break
            if task.result_bytes:
                gone.append(task)
                excess -= task.result_bytes
        return gone


def _finished(task: TaskRow) -> float:
    return task.finished or 0.0


class Upkeep:
    """Looks after the tasks of one engine; ``cancel`` and ``delete`` are the engine's."""

    def __init__(
        self,
        records: Mapping[str, TaskRecord],
        lines: Lines,
        outcomes: Outcomes,
        rules: RetentionRules,
        cancel: Callable[[TaskRecord, Failure], None],
        delete: Callable[[str], Awaitable[None]],
        cache: ResultCache | None = None,
    ) -> None:
        self._records = records
        self._lines = lines
        self._outcomes = outcomes
        self._rules = rules
        self._cancel = cancel
        self._delete = delete
        self._cache = cache

    async def run(self) -> None:
        """Run round after round, for as long as the server runs."""
        while True:
            await self.round(time.time())
            await asyncio.sleep(_ROUND_S)

    async def round(self, now: float) -> None:
        """Do everything that is due at ``now``, in seconds since 1970."""
        await self._outcomes.write_again()
        self._end_overdue(now)
        ended = [record.row for record in self._records.values() if record.state.finished]
        for task in self._rules.to_remove(ended, now):
            if task.fetched is None and task.result_bytes:
                _log.warning("task %s: removing a result that was never fetched", task.task_id)
            await self._delete(task.task_id)
        if self._cache is not None:
            await self._cache.expire(now)

    def _end_overdue(self, now: float) -> None:
        limit = self._lines.limits.age_s
        if not limit:
            return
        overdue = Failure(
            "timeout",
            f"The task waited longer than {limit:g} s in the queue.",
            retryable=True,
            phase="admission",
            details={"reason": "queue_age"},
        )
        for record in self._lines.waiting():
            if now - record.row.created > limit:
                self._cancel(record, overdue)
