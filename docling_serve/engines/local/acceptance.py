"""From a request to a task that is on the disk: room, files, journal, in this order.

A task is accepted once its row is committed; whatever fails before that leaves nothing behind.
A key is a client's promise that two requests are the same; a fingerprint shows whether they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from docling_serve.engines.base import Submission, Upload, plain
from docling_serve.engines.local.disk import Disk, sha256_of
from docling_serve.engines.local.journal import Journal, TaskRow
from docling_serve.engines.local.lines import Lines
from docling_serve.engines.local.staging import Deployment, Staged, size_of, stage
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import KeyReused
from docling_serve.jobs.spec import JobSource, RemoteUrl, StagedFile, TaskFolder, display_name
from docling_serve.jobs.writing import finish_in_thread

_NAMES_KEPT = 20


class Acceptance:
    """Takes in tasks, each request of a key once."""

    def __init__(
        self,
        journal: Journal,
        disk: Disk,
        folders: Path,
        lines: Lines,
        deployment: Deployment,
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._folders = folders
        self._lines = lines
        self._deployment = deployment
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
        if record.row.idempotency_key is not None:
            known = asyncio.get_running_loop().create_future()
            known.set_result(record)
            self._keys[record.row.tenant, record.row.idempotency_key] = known

    def forget(self, record: TaskRecord) -> None:
        """The key of a task that is gone may come again."""
        if record.row.idempotency_key is not None:
            self._keys.pop((record.row.tenant, record.row.idempotency_key), None)

    async def _take_in(self, submission: Submission) -> TaskRecord:
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
            # Behind the row, in case that is on its way; if it cannot be written, neither can that.
            undone = self._journal.forget(task_id)
            undone.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.to_thread(folder.remove)
            raise
        return record

    def _stage(self, submission: Submission, folder: TaskFolder) -> Staged:
        task_id = folder.root.name
        TaskFolder.create(self._folders, task_id)
        return stage(submission, task_id, folder, self._deployment, self._disk)


async def _same_request(record: TaskRecord, submission: Submission) -> TaskRecord:
    if await asyncio.to_thread(fingerprint, submission) != record.row.fingerprint:
        raise KeyReused("The Idempotency-Key was used before, with another request. Use a new key.")
    return record


def _row(submission: Submission, staged: Staged, size: int) -> TaskRow:
    spec = staged.spec
    keyed = submission.idempotency_key is not None
    return TaskRow(
        task_id=spec.task_id,
        tenant=submission.tenant,
        task_type=submission.task_type.value,
        num_docs=len(spec.sources),
        created=time.time(),
        input_bytes=size,
        attached=submission.attached,
        light=staged.light,
        pending_callbacks=[callback.model_dump(mode="json") for callback in submission.callbacks]
        or None,
        idempotency_key=submission.idempotency_key,
        fingerprint=fingerprint(submission, staged.digests) if keyed else None,
        names=display_names(spec.sources),
    )


def display_names(sources: Sequence[JobSource]) -> list[str]:
    """What to call the first documents of a task in a list; an address without its query, which may
    hold a key."""
    return [_display_name(source) for source in sources[:_NAMES_KEPT]]


def _display_name(source: JobSource) -> str:
    if isinstance(source, StagedFile):
        return source.filename
    if isinstance(source, RemoteUrl):
        address = urlsplit(source.url)
        return display_name(PurePosixPath(unquote(address.path)).name or address.hostname or "")
    return str(source.config.get("kind", "connector"))


def fingerprint(submission: Submission, digests: Sequence[str] | None = None) -> str:
    """The same text for the same request, sources and options included.

    ``digests`` are the SHA-256 of the uploads, in order, where they are known; else they are read.
    Blocks.
    """
    known = iter(digests) if digests is not None else None
    sources: list[object] = []
    for source in submission.sources:
        if isinstance(source, Upload):
            digest = sha256_of(source.file) if known is None else next(known)
            sources.append(["upload", source.name, digest])
        else:
            sources.append(plain(source))
    chunking = submission.chunking_options
    said = {
        "sources": sources,
        "options": plain(submission.options),
        "targets": [plain(target) for target in submission.targets],
        "task_type": submission.task_type.value,
        "chunking_options": plain(chunking) if isinstance(chunking, BaseModel) else None,
        "include_converted_doc": submission.include_converted_doc,
        "callbacks": [plain(callback) for callback in submission.callbacks],
        "target_document_version": submission.target_document_version,
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
