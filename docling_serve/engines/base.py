"""What the API may ask of any engine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

from docling.datamodel.service.callbacks import (
    CallbackSpec,
    ProgressCallbackRequest,
)
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.serialization import dump_model_with_secrets
from prometheus_client.registry import Collector
from pydantic import BaseModel
from typing_extensions import Self

from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.jobs.stages import Stage

#: File systems allow 255; endings such as ".chunks.jsonl" come on top.
_UNREAD_STATES = 64

FINISHED = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILURE})
"""The states in which docling-jobkit considers a task finished."""

DEFAULT_TENANT = "default"  # upstream G74


@dataclass(frozen=True)
class Upload:
    """A document that came with the request. ``name`` is the client's, for display and for
    guessing the format; it is never used as a path."""

    name: str
    file: BinaryIO


Source = Upload | BaseModel
"""An upload, or the request model of a source that the worker fetches."""


@dataclass(frozen=True)
class Submission:
    """A validated request, ready to become a task."""

    sources: Sequence[Source]
    options: ConvertDocumentsOptions
    targets: Sequence[BaseModel]
    task_type: TaskType = TaskType.CONVERT
    chunking_options: BaseModel | None = None
    include_converted_doc: bool = False
    callbacks: Sequence[CallbackSpec] = ()
    target_document_version: str | None = None
    tenant: str = DEFAULT_TENANT
    #: The client may repeat the request under this key without creating a second task.
    idempotency_key: str | None = None
    #: The client waits on its connection: without a key no client can ask for the task afterwards.
    attached: bool = False


@dataclass(frozen=True)
class TaskView:
    """A task as it is now. ``position`` counts from 1 while the task waits.

    ``ahead`` is how many tasks must leave before it starts, ``expected_wait_s`` how long that takes
    judging by earlier tasks; both are None where unknown. ``waits_in`` is the stage in which a task
    waits after its turn has come. ``names`` are the documents, without keys that an address may
    contain. ``cache`` says whether its result was looked up, and found, among earlier results.
    """

    task_id: str
    task_type: TaskType
    status: TaskStatus
    position: int | None = None
    ahead: int | None = None
    expected_wait_s: float | None = None
    waits_in: Stage | None = None
    light: bool = False
    names: Sequence[str] = ()
    cache: Literal["hit", "miss"] | None = None
    num_docs: int = 0
    progress: JobProgress | None = None
    result: JobResult | None = None
    failure: Failure | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether the task has finished, successfully or not."""
        return self.status in FINISHED


class Watch:
    """Follows one task: an async iterator over its states, which ends after the final one.


    If the reader is too slow, the oldest unread states are dropped, never the newest. An engine
    pushes every state to it; it belongs to one event loop.
    """

    def __init__(self, now: TaskView) -> None:
        self._unread = deque([now], maxlen=_UNREAD_STATES)
        self._latest = now
        self._told = asyncio.Event()
        self._ended = False
        self._closed = False

    @property
    def latest(self) -> TaskView:
        """The newest state, read or not."""
        return self._latest

    def tell(self, state: TaskView) -> None:
        """The task has come to ``state``."""
        self._latest = state
        self._unread.append(state)
        self._told.set()

    def repeat(self) -> None:
        """Give the reader the newest state once more."""
        self.tell(self._latest)

    def close(self) -> None:
        """End the stream although the task has not finished: the server ends."""
        self._closed = True
        self._told.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskView:
        if self._ended:
            raise StopAsyncIteration
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._told.clear()
            await self._told.wait()
        state = self._unread.popleft()
        self._ended = state.finished
        return state


@dataclass(frozen=True)
class LineCapacity:
    """One line of tasks. ``expected_wait_s`` is for a task that would come now, estimated from
    earlier tasks."""

    queued: int
    running: int
    workers: int
    expected_wait_s: float


@dataclass(frozen=True)
class Capacity:
    """An engine's load. ``light`` is the line of documents that need no models, where they have
    one; ``room`` is how many more tasks may come, None for no limit."""

    heavy: LineCapacity
    light: LineCapacity | None
    room: int | None


@dataclass(frozen=True)
class Reply:
    """The body that answers for a finished task: a file to stream, or the ``content`` itself."""

    media_type: str
    path: Path | None = None
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    download_name: str | None = None


class TaskEngine(Protocol):
    """Every call that takes a task id raises jobkit's ``TaskNotFoundError`` when there is no such
    task, or it belongs to another tenant."""

    async def submit(self, submission: Submission) -> TaskView:
        """Accept a task. Raises ``ShuttingDown`` when no task is accepted any more."""
        ...

    async def view(self, task_id: str, tenant: str) -> TaskView:
        """The task as it is now."""
        ...

    async def wait_finished(self, task_id: str, tenant: str, wait_s: float) -> TaskView:
        """The task once it has finished, or as it is after ``wait_s`` seconds."""
        ...

    def watch(self, task_id: str, tenant: str) -> AbstractAsyncContextManager[Watch]:
        """The task as it is now, then every state it reaches."""
        ...

    async def reply(self, task_id: str, tenant: str) -> Reply | None:
        """The body of a successful task; None for any other."""
        ...

    async def cancel(self, task_id: str, tenant: str, failure: Failure) -> TaskView:
        """End a task that has not finished, with ``failure`` as its cause."""
        ...

    async def delete(self, task_id: str, tenant: str) -> TaskView:
        """Forget a task with its result, stopping it first if it has not finished; returns the task
        in its final state."""
        ...

    async def on_result_fetched(self, task_id: str) -> None:
        """A client has read the result; a single-use result is removed after its delay."""
        ...

    async def receive_task_progress(self, request: ProgressCallbackRequest) -> None:
        """Record progress reported from outside. Raises ``ProgressInvalid`` where it is invalid."""
        ...

    async def list_tasks(
        self, tenant: str, state: TaskStatus | None = None, limit: int = 100
    ) -> list[TaskView]:
        """The tasks of ``tenant``, of one state or of all, the newest first."""
        ...

    async def capacity(self, tenant: str) -> Capacity | None:
        """The load, as a next task of ``tenant`` would find it; None where tasks run elsewhere and
        the load is unknown here."""
        ...

    async def queue_size(self) -> int:
        """The number of waiting tasks."""
        ...

    async def clear_results(self, older_than: float = 0.0, tenant: str | None = None) -> None:
        """Remove tasks that finished more than ``older_than`` seconds ago: those of ``tenant``, or
        all."""
        ...

    async def clear_converters(self) -> None:
        """Free what loaded converters hold."""
        ...

    async def check_connection(self) -> None:
        """Raise if the engine cannot be reached."""
        ...


@runtime_checkable
class TellsQueueAge(Protocol):
    """An engine that knows how long its tasks have waited."""

    @property
    def waiting_since(self) -> float | None:
        """When the task that waits longest was accepted, in seconds since 1970; None if no task
        waits."""
        ...


@dataclass(frozen=True)
class CacheUse:
    """Cache look-ups since the start, by whether the result was found, and the bytes of kept
    results."""

    hits: int
    misses: int
    bytes: int


@runtime_checkable
class HasResultCache(Protocol):
    """An engine that may answer with an earlier result."""

    @property
    def cache_use(self) -> CacheUse | None:
        """None where the cache is off."""
        ...


@runtime_checkable
class KnowsWorkers(Protocol):
    """An engine whose tasks run on other hosts, which report their workers."""

    def describe_workers(self) -> dict[str, Any]:
        """The worker processes of all hosts, as plain data."""
        ...

    def stop_worker(self, number: int) -> bool:
        """Ask for the end of a worker process; False if there is none of this number."""
        ...


OnCallback = Callable[[str, Sequence[CallbackSpec], dict[str, Any]], None]
"""Takes an event for the callbacks of a task, and delivers it in its own time."""


@runtime_checkable
class HasCollector(Protocol):
    """An engine that has metrics of its own."""

    collector: Collector


@runtime_checkable
class TellsEnds(Protocol):
    """An engine whose tasks finish in this process and that reports each end."""

    on_ended: Callable[[TaskView], None]


def plain(model: BaseModel) -> dict[str, Any]:
    """``model`` as JSON data that another process can validate, secrets included: it goes into a
    file that only this user may read."""
    dumped: dict[str, Any] = dump_model_with_secrets(model, serialize_as_any=True)
    return dumped
