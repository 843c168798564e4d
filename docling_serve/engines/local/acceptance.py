"""From a request to a task that is on the disk: room, files, journal, in this order.

A task is accepted once its row is committed; whatever fails before that leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

from docling_jobkit.datamodel.task import Task

from docling_serve.engines.base import Submission
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.idempotency import fingerprint
from docling_serve.engines.local.journal import Journal, JournaledTask
from docling_serve.engines.local.lines import Lines
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.engines.staging import Deployment, Staged, size_of, stage
from docling_serve.errors import KeyReused
from docling_serve.jobs import JobSpec, TaskFolder


class Acceptance:
    """Takes in tasks, each request of a key once."""

    def __init__(
        self,
        journal: Journal,
        disk: Disk,
        folders: Path,
        lines: Lines,
        deployment: Deployment,
        is_light: Callable[[JobSpec, TaskFolder], bool],
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._folders = folders
        self._lines = lines
        self._deployment = deployment
        self._is_light = is_light
        #: The task of each key; not done while it is being taken in.
        self._keys: dict[tuple[str, str], asyncio.Future[TaskRecord]] = {}

    async def accept(self, submission: Submission) -> tuple[TaskRecord, bool]:
        """The task of the request, and whether it is a new one.

        Raises:
            QueueFull: there is no room for it.
            KeyReused: its key came before, with another request.
            OSError: it could not be written.
        """
        if submission.idempotency_key is None:
            return await self._take_in(submission), True
        name = (submission.tenant, submission.idempotency_key)
        while (before := self._keys.get(name)) is not None:
            await asyncio.wait({before})
            if not before.cancelled():  # else that request came to nothing, and this one is first
                return await _same_request(before.result(), submission), False
        self._keys[name] = own = asyncio.get_running_loop().create_future()
        try:
            record = await self._take_in(submission)
        except BaseException:
            del self._keys[name]
            own.cancel()
            raise
        own.set_result(record)
        return record, True

    def remember(self, record: TaskRecord) -> None:
        """The key of a task that was accepted before."""
        if record.idempotency_key is not None:
            known = asyncio.get_running_loop().create_future()
            known.set_result(record)
            self._keys[record.tenant, record.idempotency_key] = known

    def forget(self, record: TaskRecord) -> None:
        """The key of a task that is gone may come again."""
        if record.idempotency_key is not None:
            self._keys.pop((record.tenant, record.idempotency_key), None)

    async def _take_in(self, submission: Submission) -> TaskRecord:
        size = await asyncio.to_thread(size_of, submission)
        self._lines.reserve(submission.tenant, size)
        task_id = str(uuid.uuid4())
        folder = TaskFolder(self._folders / task_id)
        try:
            staged, light = await asyncio.to_thread(self._stage, submission, folder)
            record = self._record(submission, folder, staged, size, light)
            await self._journal.accept(_as_journaled(record))
        except BaseException:
            self._lines.give_back(submission.tenant, size)
            # Behind the row, in case that is on its way; if it cannot be written, neither can that.
            undone = self._journal.forget(task_id)
            undone.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.to_thread(folder.remove)
            raise
        return record

    def _stage(self, submission: Submission, folder: TaskFolder) -> tuple[Staged, bool]:
        """The submission on disk, and whether it is a light one."""
        task_id = folder.root.name
        TaskFolder.create(self._folders, task_id)
        staged = stage(submission, task_id, folder, self._deployment, self._disk)
        return staged, self._is_light(staged.spec, folder)

    def _record(
        self, submission: Submission, folder: TaskFolder, staged: Staged, size: int, light: bool
    ) -> TaskRecord:
        task = Task(
            task_id=staged.spec.task_id,
            task_type=submission.task_type,
            convert_options=submission.options,
            callbacks=list(submission.callbacks),
            target_document_version=submission.target_document_version,
        )
        keyed = submission.idempotency_key is not None
        return TaskRecord(
            task,
            submission.tenant,
            folder,
            staged.spec,
            num_docs=len(staged.spec.sources),
            input_bytes=size,
            light=light,
            attached=submission.attached,
            idempotency_key=submission.idempotency_key,
            fingerprint=fingerprint(submission, staged.digests) if keyed else None,
        )


async def _same_request(record: TaskRecord, submission: Submission) -> TaskRecord:
    if await asyncio.to_thread(fingerprint, submission) != record.fingerprint:
        raise KeyReused("The Idempotency-Key was used before, with another request. Use a new key.")
    return record


def _as_journaled(record: TaskRecord) -> JournaledTask:
    return JournaledTask(
        task_id=record.task.task_id,
        tenant=record.tenant,
        task_type=record.task.task_type.value,
        num_docs=record.num_docs,
        created=record.task.created_at.timestamp(),
        input_bytes=record.input_bytes,
        attached=record.attached,
        light=record.light,
        untold=[spec.model_dump(mode="json") for spec in record.task.callbacks] or None,
        idempotency_key=record.idempotency_key,
        fingerprint=record.fingerprint,
    )
