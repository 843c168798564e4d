"""What becomes of the tasks of a server that has ended, when the next one starts on its folder.

==========================  =====================================================================
queued                      runs, in the order of acceptance
started                     runs again while it has attempts left, else it has failed
success, failure            as it was; a result whose file is gone has failed; callbacks that
                            have not heard of the end do now
client waited on its        forgotten if it had not finished: nobody can ask for it
connection, without a key
folder without a row        removed: it was never accepted
==========================  =====================================================================
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from pydantic import ValidationError

from docling_serve.engines.local.journal import JournaledTask, TaskState
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.engines.staging import Deployment
from docling_serve.errors import Failure
from docling_serve.jobs import JobSpec, TaskFolder
from docling_serve.rendering import public_failure

_log = logging.getLogger(__name__)

LOST = Failure(
    "capacity",
    "The server ended while it ran the task, at each attempt it had.",
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

_STATUS = {
    TaskState.QUEUED: TaskStatus.PENDING,
    TaskState.STARTED: TaskStatus.PENDING,
    TaskState.SUCCESS: TaskStatus.SUCCESS,
    TaskState.FAILURE: TaskStatus.FAILURE,
}


@dataclass(frozen=True)
class Recovered:
    """A task as it stood. ``ends_with`` says that it fails now; ``was_running`` that an attempt
    was cut off."""

    record: TaskRecord
    was_running: bool = False
    ends_with: Failure | None = None


@dataclass(frozen=True)
class Recovery:
    """Everything that was found: tasks in order of acceptance, and the ids of those to forget."""

    tasks: list[Recovered]
    forgotten: list[str]


class Restorer:
    """Reads tasks back from their rows and folders. Blocks: use a thread."""

    def __init__(
        self,
        folders: Path,
        deployment: Deployment,
        is_light: Callable[[JobSpec, TaskFolder], bool],
        max_attempts: int,
    ) -> None:
        self._folders = folders
        self._deployment = deployment
        self._is_light = is_light
        self._max_attempts = max_attempts

    async def restore(self, rows: Iterable[JournaledTask]) -> Recovery:
        """The tasks of ``rows``; removes folders and files that belong to none."""
        return await asyncio.to_thread(self._restore, list(rows))

    def _restore(self, rows: list[JournaledTask]) -> Recovery:
        abandoned = [row for row in rows if _is_abandoned(row)]
        kept = [row for row in rows if not _is_abandoned(row)]
        self._sweep({row.task_id for row in kept})
        return Recovery([self._task(row) for row in kept], [row.task_id for row in abandoned])

    def _sweep(self, known: set[str]) -> None:
        for folder in self._folders.iterdir():
            if folder.name not in known:
                _log.info("removing the files of task %s, which was never accepted", folder.name)
                shutil.rmtree(folder, ignore_errors=True)

    def _task(self, row: JournaledTask) -> Recovered:
        folder = TaskFolder(self._folders / row.task_id)
        if row.state.finished:
            return _finished(row, folder)
        running = row.state is TaskState.STARTED
        try:
            folder.drop_attempt()
            spec = self._spec(folder)
        except (OSError, ValidationError) as exc:
            _log.error("task %s: its files cannot be used: %s", row.task_id, exc)
            return Recovered(_record(row, folder, None), running, FILES_GONE)
        record = _record(row, folder, spec)
        record.light = self._is_light(spec, folder)
        if running and row.attempts >= self._max_attempts:
            return Recovered(record, running, LOST)
        return Recovered(record, running)

    def _spec(self, folder: TaskFolder) -> JobSpec:
        """The job as it was accepted, for this server: its configuration may be another one, and
        the part of the work that was under way is not the task."""
        changes = {**self._deployment.as_job_fields(), "part": None}
        return folder.read_job().model_copy(update=changes)


def _is_abandoned(row: JournaledTask) -> bool:
    return row.attached and row.idempotency_key is None and not row.state.finished


def _finished(row: JournaledTask, folder: TaskFolder) -> Recovered:
    if row.result is None:
        folder.remove()
    elif not (folder.root / row.result.body).is_file():
        row = replace(row, state=TaskState.FAILURE, result=None, failure=FILES_GONE)
    else:
        folder.drop_inputs()
    return Recovered(_record(row, folder, None))


def _record(row: JournaledTask, folder: TaskFolder, spec: JobSpec | None) -> TaskRecord:
    task = Task(
        task_id=row.task_id,
        task_type=TaskType(row.task_type),
        task_status=_STATUS[row.state],
        created_at=datetime.fromtimestamp(row.created, timezone.utc),
        finished_at=_moment(row.finished),
        started_at=_moment(row.started),
        error_message=row.failure.message if row.failure else None,
        failure=public_failure(row.failure) if row.failure else None,
    )
    if row.untold:
        task.callbacks = [CallbackSpec.model_validate(callback) for callback in row.untold]
    if spec is not None:
        task.convert_options = ConvertDocumentsOptions.model_validate(spec.options)
        task.callbacks = [CallbackSpec.model_validate(callback) for callback in spec.callbacks]
        task.target_document_version = spec.target_document_version
        task.started_at = None
    return TaskRecord(
        task,
        row.tenant,
        folder,
        spec,
        num_docs=row.num_docs,
        input_bytes=row.input_bytes,
        attached=row.attached,
        light=row.light,
        idempotency_key=row.idempotency_key,
        fingerprint=row.fingerprint,
        attempts=row.attempts,
        result=row.result,
        result_bytes=row.result_bytes,
        fetched=row.fetched,
        failure=row.failure,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
