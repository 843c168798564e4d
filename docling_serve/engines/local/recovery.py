"""What happens to the tasks of a server that has ended, when the next one starts on its folder.

==========================  =====================================================================
queued                      runs, in the order of acceptance
started                     runs again while it has attempts left, else it has failed
success, failure            unchanged; a result whose file is gone has failed; callbacks that
                            were not notified of the end are now
client waited on its        forgotten if it had not finished: no client can ask for it
connection, without a key
folder without a row        removed: it was never accepted
==========================  =====================================================================
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from docling_serve.engines.local.journal import TaskRow
from docling_serve.engines.local.staging import Deployment
from docling_serve.engines.local.states import TaskState
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import Failure
from docling_serve.jobs.needs import may_need_models
from docling_serve.jobs.spec import JobSpec, TaskFolder

_log = logging.getLogger(__name__)

LOST = Failure(
    "capacity",
    "The server exited during every attempt to run the task.",
    retryable=True,
    details={"reason": "attempts_used_up"},
)
FILES_GONE = Failure(
    "internal",
    "The server lost the files of the task.",
    retryable=True,
    phase="orchestration",
    details={"reason": "files_gone"},
)


@dataclass(frozen=True)
class Recovered:
    """A task as it stood; one in ``STARTED`` was interrupted. With ``ends_with`` it fails now."""

    record: TaskRecord
    ends_with: Failure | None = None


@dataclass(frozen=True)
class Recovery:
    """Everything that was found: tasks in order of acceptance, and the ids of those to forget."""

    tasks: list[Recovered]
    forgotten: list[str]


class Restorer:
    """Restores tasks from their rows and folders. Blocks: use a thread."""

    def __init__(
        self,
        folders: Path,
        deployment: Deployment,
        max_attempts: int,
    ) -> None:
        self._folders = folders
        self._deployment = deployment
        self._max_attempts = max_attempts

    async def restore(self, rows: Iterable[TaskRow]) -> Recovery:
        """The tasks of ``rows``; removes folders and files that belong to no task."""
        return await asyncio.to_thread(self._restore, list(rows))

    def _restore(self, rows: list[TaskRow]) -> Recovery:
        abandoned = [row for row in rows if _is_abandoned(row)]
        kept = [row for row in rows if not _is_abandoned(row)]
        self._sweep({row.task_id for row in kept})
        return Recovery([self._task(row) for row in kept], [row.task_id for row in abandoned])

    def _sweep(self, known: set[str]) -> None:
        for folder in self._folders.iterdir():
            if folder.name not in known:
                _log.debug("removing the files of task %s, which was never accepted", folder.name)
                shutil.rmtree(folder, ignore_errors=True)

    def _task(self, row: TaskRow) -> Recovered:
        folder = TaskFolder(self._folders / row.task_id)
        if row.state.finished:
            return _finished(row, folder)
        try:
            folder.drop_attempt()
            spec = self._spec(folder)
        except (OSError, ValidationError) as exc:
            _log.error("task %s: its files cannot be used: %s", row.task_id, exc)
            return Recovered(TaskRecord(row, folder), FILES_GONE)
        record = TaskRecord(replace(row, light=not may_need_models(spec, folder)), folder, spec)
        used_up = row.state is TaskState.STARTED and row.attempts >= self._max_attempts
        return Recovered(record, LOST if used_up else None)

    def _spec(self, folder: TaskFolder) -> JobSpec:
        """The job as it was accepted, adapted to this server: its configuration may differ, and
        the part of the work that was under way is not the task."""
        changes = {**self._deployment.as_job_fields(), "part": None}
        written = folder.read_job()
        spec = written.model_copy(update=changes)
        if spec != written:
            folder.write_job(spec)
        return spec


def _is_abandoned(row: TaskRow) -> bool:
    return row.attached and row.idempotency_key is None and not row.state.finished


def _finished(row: TaskRow, folder: TaskFolder) -> Recovered:
    if row.result is None:
        folder.remove()
    elif not (folder.root / row.result.body).is_file():
        row = replace(row, state=TaskState.FAILURE, result=None, failure=FILES_GONE)
    else:
        folder.drop_inputs()
    return Recovered(TaskRecord(row, folder))
