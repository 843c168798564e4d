"""What the engine does by the clock: results that have had their time, tasks that wait too long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from docling_serve.engines.local.lines import Lines
from docling_serve.engines.local.outcomes import Outcomes
from docling_serve.engines.local.retention import FinishedTask, RetentionRules
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import Failure

_log = logging.getLogger(__name__)

_ROUND_S = 5.0


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
    ) -> None:
        self._records = records
        self._lines = lines
        self._outcomes = outcomes
        self._rules = rules
        self._cancel = cancel
        self._delete = delete

    async def run(self) -> None:
        """One round after the other, for as long as the server runs."""
        while True:
            await self.round(time.time())
            await asyncio.sleep(_ROUND_S)

    async def round(self, now: float) -> None:
        """Everything that is due at ``now``, in seconds of the epoch."""
        await self._outcomes.write_again()
        self._end_overdue(now)
        for task in self._rules.to_remove(self._finished(), now):
            if not task.fetched and task.result_bytes:
                _log.warning("task %s: removing a result that nobody has read", task.task_id)
            await self._delete(task.task_id)

    def _end_overdue(self, now: float) -> None:
        limit = self._lines.limits.age_s
        if not limit:
            return
        overdue = Failure(
            "timeout",
            f"The task waited longer than {limit:g} s for its turn.",
            retryable=True,
            phase="admission",
            details={"reason": "queue_age"},
        )
        for record in self._lines.waiting():
            if now - record.task.created_at.timestamp() > limit:
                self._cancel(record, overdue)

    def _finished(self) -> Iterable[FinishedTask]:
        for task_id, record in self._records.items():
            ended = record.task.finished_at
            if record.finished and ended is not None:
                fetched = record.fetched is not None
                yield FinishedTask(task_id, ended.timestamp(), record.result_bytes, fetched)
