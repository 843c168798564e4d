"""One task of the local engine: its row, and this process's own data about it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import Watch
from docling_serve.engines.local.journal import TaskRow
from docling_serve.engines.local.result_cache import CacheKey
from docling_serve.engines.local.states import SETTLED, TaskState
from docling_serve.errors import Failure
from docling_serve.jobs.rendering import public_failure
from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.jobs.stages import Stage

_STATUS_AT_END = {TaskState.SUCCESS: TaskStatus.SUCCESS, TaskState.FAILURE: TaskStatus.FAILURE}


@dataclass(eq=False)
class TaskRecord:
    """Everything the engine knows of a task. Its state changes in the conductor alone.

    ``spec`` is there until the task has finished. ``waits_in`` is the stage before a worker has it,
    where it is not just queued. ``stopped_with`` says why the runner was asked to stop.
    ``cache_key`` is the name of its result in the cache, if it could be there; ``from_cache`` says
    that it was.
    """

    row: TaskRow
    folder: TaskFolder
    spec: JobSpec | None = None
    progress: JobProgress | None = None
    waits_in: Stage | None = None
    runner: asyncio.Future[JobResult] | None = None
    stopped_with: Failure | None = None
    started_clock: float | None = None
    removal: asyncio.TimerHandle | None = None
    watches: set[Watch] = field(default_factory=set)
    cache_key: CacheKey | None = None
    from_cache: bool = False
    _is_settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def task_id(self) -> str:
        return self.row.task_id

    @property
    def state(self) -> TaskState:
        """Where the task stands."""
        return self.row.state

    @property
    def status(self) -> TaskStatus:
        """The state in docling-jobkit's terms, which has only the states that clients see."""
        running = TaskStatus.PENDING if self.row.started is None else TaskStatus.STARTED
        return _STATUS_AT_END.get(self.state, running)

    @property
    def callbacks(self) -> list[CallbackSpec]:
        """Callbacks that have not been notified of the end."""
        return [
            CallbackSpec.model_validate(callback) for callback in self.row.pending_callbacks or ()
        ]

    def note(self, **changes: Any) -> None:
        """Change fields of the row other than its state."""
        self.row = replace(self.row, **changes)

    def as_task(self) -> Task:
        """The task in docling-jobkit's model, at this moment."""
        row, spec = self.row, self.spec
        options = ConvertDocumentsOptions.model_validate(spec.options) if spec else None
        return Task(
            task_id=row.task_id,
            task_type=TaskType(row.task_type),
            task_status=self.status,
            convert_options=options,
            callbacks=self.callbacks,
            target_document_version=spec.target_document_version if spec else None,
            error_message=row.failure.message if row.failure else None,
            failure=public_failure(row.failure) if row.failure else None,
            created_at=moment(row.created),
            started_at=moment(row.started),
            finished_at=moment(row.finished),
        )

    def settle(self) -> None:
        """Wake all who wait in :meth:`wait_settled`."""
        self._is_settled.set()

    async def wait_settled(self, wait_s: float | None) -> None:
        """Wait until the task has finished or is parked; at most ``wait_s`` seconds, None for no
        limit."""
        if self.state not in SETTLED and (wait_s is None or wait_s > 0):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_settled.wait(), wait_s)


def moment(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a date with a time zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
