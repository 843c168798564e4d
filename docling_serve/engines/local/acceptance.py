"""Turn a request into a task that is on disk: reserve room, write files, write the journal.

A task is accepted once its row is committed; any earlier failure leaves nothing behind. A key is a
client's promise that two requests are the same; a fingerprint shows whether they are. A request
whose result is in the cache becomes a finished task.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from docling_serve.engines.base import Submission, Upload
from docling_serve.engines.fingerprint import fingerprint
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.journal import Journal, TaskRow
from docling_serve.engines.local.lines import Lines
from docling_serve.engines.local.result_cache import CacheKey, ResultCache
from docling_serve.engines.local.staging import Deployment, Staged, size_of, stage
from docling_serve.engines.local.states import TaskState
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import KeyReused
from docling_serve.jobs.spec import (
    JobResult,
    JobSource,
    RemoteUrl,
    StagedFile,
    TaskFolder,
    display_name,
)
from docling_serve.jobs.writing import finish_in_thread

_NAMES_KEPT = 20


class Acceptance:
    """Accepts tasks, each request with a key once."""

    def __init__(
        self,
        journal: Journal,
        disk: Disk,
        folders: Path,
        lines: Lines,
        deployment: Deployment,
        cache: ResultCache | None = None,
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._folders = folders
        self._lines = lines
        self._deployment = deployment
        self._cache = cache
        #: The task of each key; not done while it is being accepted.
        self._keys: dict[tuple[str, str], asyncio.Future[TaskRecord]] = {}

    async def accept(self, submission: Submission) -> tuple[TaskRecord, bool]:
        """The task of the request, and whether it is a new one.

        Raises:
            QueueFull: there is no room for it.
            KeyReused: its key was used before, with another request.
            OSError: it could not be written.
        """
        if submission.idempotency_key is None:
            return await self._take_in(submission), True
        name = (submission.tenant, submission.idempotency_key)
        while (before := self._keys.get(name)) is not None:
            await asyncio.wait({before})
            if not before.cancelled():  # else that request failed, and this one is the first
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
        """Restore the key of a task that was accepted before."""
        if record.row.idempotency_key is not None:
            known = asyncio.get_running_loop().create_future()
            known.set_result(record)
            self._keys[record.row.tenant, record.row.idempotency_key] = known

    def forget(self, record: TaskRecord) -> None:
        """Release the key of a task that is gone."""
        if record.row.idempotency_key is not None:
            self._keys.pop((record.row.tenant, record.row.idempotency_key), None)

    async def _take_in(self, submission: Submission) -> TaskRecord:
        key = None
        if self._cache is not None and ResultCache.serves(submission):
            key = await asyncio.to_thread(self._cache.key_of, submission)
            if (answered := await self._answer(submission, key, self._cache)) is not None:
                return answered
        record = await self._stage_and_journal(submission)
        record.cache_key = key
        return record

    async def _answer(
        self, submission: Submission, key: CacheKey, cache: ResultCache
    ) -> TaskRecord | None:
        """A task finished with the result in ``cache``, if there is one."""
        task_id = str(uuid.uuid4())
        folder = TaskFolder(self._folders / task_id)
        try:
            result = await cache.take(key, folder)
            if result is None:
                return None
            row = _answered_row(submission, task_id, key, result, folder.body.stat().st_size)
            await self._journal.accept(row)
        except BaseException:
            await self._undo(folder)
            raise
        return TaskRecord(row, folder, cache_key=key, from_cache=True)

    async def _stage_and_journal(self, submission: Submission) -> TaskRecord:
        size = size_of(submission)
        self._lines.reserve(submission.tenant, size)
        task_id = str(uuid.uuid4())
        folder = TaskFolder(self._folders / task_id)
        try:
            staged = await finish_in_thread(self._stage, submission, folder)
            record = TaskRecord(_row(submission, staged, size), folder, staged.spec)
            await self._journal.accept(record.row)
        except BaseException:
            self._lines.give_back(submission.tenant, size)
            await self._undo(folder)
            raise
        return record

    async def _undo(self, folder: TaskFolder) -> None:
        # Queued after the row, in case that is pending; if this write fails, so does that one.
        undone = self._journal.forget(folder.root.name)
        undone.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.to_thread(folder.remove)

    def _stage(self, submission: Submission, folder: TaskFolder) -> Staged:
        task_id = folder.root.name
        TaskFolder.create(self._folders, task_id)
        return stage(submission, task_id, folder, self._deployment, self._disk)


async def _same_request(record: TaskRecord, submission: Submission) -> TaskRecord:
    if await asyncio.to_thread(fingerprint, submission) != record.row.fingerprint:
        raise KeyReused("The Idempotency-Key was used before, with another request. Use a new key.")
    return record


def _row(submission: Submission, staged: Staged, size: int) -> TaskRow:
    return TaskRow(
        task_id=staged.spec.task_id,
        light=staged.light,
        input_bytes=size,
        names=display_names(staged.spec.sources),
        **_from_request(submission, staged.digests),
    )


def _answered_row(
    submission: Submission, task_id: str, key: CacheKey, result: JobResult, size: int
) -> TaskRow:
    """The row of a task whose result was already in the cache."""
    row = TaskRow(
        task_id=task_id,
        names=[display_name(s.name) for s in submission.sources if isinstance(s, Upload)][
            :_NAMES_KEPT
        ],
        **_from_request(submission, key.digests),
    )
    return replace(
        row, state=TaskState.SUCCESS, finished=row.created, result=result, result_bytes=size
    )


def _from_request(submission: Submission, digests: Sequence[str]) -> dict[str, Any]:
    """The fields of a row that come from the request; ``digests`` are those of its uploads."""
    keyed = submission.idempotency_key is not None
    callbacks = [callback.model_dump(mode="json") for callback in submission.callbacks]
    return {
        "tenant": submission.tenant,
        "task_type": submission.task_type.value,
        "num_docs": len(submission.sources),
        "created": time.time(),
        "attached": submission.attached,
        "pending_callbacks": callbacks or None,
        "idempotency_key": submission.idempotency_key,
        "fingerprint": fingerprint(submission, digests) if keyed else None,
    }


def display_names(sources: Sequence[JobSource]) -> list[str]:
    """Display names of the first documents of a task; an address without its query, which may
    contain a key."""
    return [_display_name(source) for source in sources[:_NAMES_KEPT]]


def _display_name(source: JobSource) -> str:
    if isinstance(source, StagedFile):
        return source.filename
    if isinstance(source, RemoteUrl):
        address = urlsplit(source.url)
        return display_name(PurePosixPath(unquote(address.path)).name or address.hostname or "")
    return str(source.config.get("kind", "connector"))
