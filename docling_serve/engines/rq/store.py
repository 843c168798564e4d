"""Tasks as stored in Redis: read in one round trip, written where a gateway must write.

Nothing is cached here, so every gateway reports the same state of a task, whichever accepted it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from docling.datamodel.service.tasks import TaskProcessingMeta, TaskType
from docling_jobkit.datamodel.task import Task, validate_task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from redis.asyncio import Redis as AsyncRedis
from rq.job import Job
from rq.utils import utcparse

from docling_serve.engines.base import DEFAULT_TENANT, FINISHED, TaskView
from docling_serve.engines.redis.jobkit_tasks import LIGHT, NAMES
from docling_serve.engines.redis.line_view import LineView, WaitingPlace
from docling_serve.engines.rq.jobs import Jobs
from docling_serve.errors import Failure
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.rendering import public_failure
from docling_serve.jobs.spec import JobProgress, JobResult

#: States of an RQ job; any other state counts as failed.
_STATUS_OF_JOB = {
    "created": TaskStatus.PENDING,
    "queued": TaskStatus.PENDING,
    "scheduled": TaskStatus.PENDING,
    "deferred": TaskStatus.PENDING,
    "started": TaskStatus.STARTED,
    "finished": TaskStatus.SUCCESS,
}
_UNFINISHED = frozenset(_STATUS_OF_JOB) - {"finished"}
_JOB_FIELDS = ("status", "origin", "started_at", "ended_at", "worker_name")

JOB_GONE = Failure(
    "internal",
    "The task's job is gone from Redis, so the task will not be run.",
    retryable=True,
    phase="orchestration",
)
JOB_FAILED = "The worker failed to run the task; its log says why."


@dataclass(frozen=True)
class StoredTask:
    """A task as Redis has it. ``queue`` is None when the job is gone, ``worker`` is the name of
    the RQ worker that has or had it."""

    task_id: str
    metadata: dict[str, Any]
    status: TaskStatus
    place: WaitingPlace | None = None
    queue: str | None = None
    worker: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: JobProgress | None = None
    result: JobResult | None = None
    failure: Failure | None = field(default=None)

    @property
    def tenant(self) -> str:
        """The tenant of the task."""
        return str((self.metadata.get("metadata") or {}).get("tenant_id") or DEFAULT_TENANT)

    @property
    def position(self) -> int | None:
        """The position from 1 while it waits."""
        return self.place.position if self.place else None

    @property
    def document_version(self) -> str | None:
        """The schema version for in-body documents; None for the current one."""
        return self.metadata.get("target_document_version")

    @property
    def finished(self) -> bool:
        """Whether the task has finished."""
        return self.status in FINISHED

    def task(self, allow_external_plugins: bool) -> Task:
        """The task as jobkit's model, without its documents; keys in it are masked."""
        given = {name: value for name, value in self.metadata.items() if value is not None}
        changed = {
            "task_status": self.status,
            "error_message": self.failure.message if self.failure else None,
            "failure": public_failure(self.failure) if self.failure else None,
            "finished_at": self.ended_at,
        }
        return validate_task({**given, **changed}, allow_external_plugins=allow_external_plugins)

    def view(self) -> TaskView:
        """The task as the API shows it."""
        said = self.metadata.get("metadata") or {}
        return TaskView(
            task_id=self.task_id,
            task_type=TaskType(self.metadata.get("task_type", TaskType.CONVERT.value)),
            status=self.status,
            position=self.position,
            ahead=self.place.ahead if self.place else None,
            expected_wait_s=self.place.expected_wait_s if self.place else None,
            light=bool(said.get(LIGHT)),
            names=[str(name) for name in said.get(NAMES) or ()],
            num_docs=int((self.metadata.get("processing_meta") or {}).get("num_docs", 0)),
            progress=self.progress,
            result=self.result,
            failure=self.failure,
            created_at=_moment(self.metadata.get("created_at")),
            started_at=self.started_at,
            finished_at=self.ended_at,
        )


def _moment(text: str | None) -> datetime | None:
    # Python 3.10 cannot parse the Z that pydantic writes.
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


class TaskStore:
    """Reads and writes tasks.

    Every method raises ``redis.RedisError`` when Redis does not answer as it should.
    """

    def __init__(
        self, connection: AsyncRedis, jobs: Jobs, line: LineView, config: RQOrchestratorConfig
    ) -> None:
        self._redis = connection
        self._jobs = jobs
        self._line = line
        self._config = config

    async def read(self, task_id: str) -> StoredTask | None:
        """The task as it is now; None if it does not exist, or was deleted."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(jobkit_rq.metadata_key(task_id))
            pipe.hgetall(jobkit_rq.detail_key(task_id))
            pipe.exists(jobkit_rq.result_key(self._config, task_id))
            pipe.hmget(Job.key_for(task_id), *_JOB_FIELDS)
            raw, detail, has_result, job = await pipe.execute()
        known = {key.decode(): value for key, value in detail.items()}
        if jobkit_rq.DELETED in known:
            return None
        fields = [value.decode() if value else None for value in job]
        has_outcome = bool(has_result) or jobkit_rq.FAILURE in known
        if raw is None and not has_outcome and fields[0] not in _UNFINISHED:
            return None  # it was fetched and has expired; RQ's own record may stay longer
        waits = fields[0] in _UNFINISHED
        metadata = json.loads(raw) if raw else await self._metadata_of_job(task_id, keep=waits)
        if metadata is None:
            return None
        return await self._stored(task_id, metadata, known, bool(has_result), fields)

    async def _stored(
        self,
        task_id: str,
        metadata: dict[str, Any],
        detail: dict[str, bytes],
        has_result: bool,
        job: list[str | None],
    ) -> StoredTask:
        job_status, queue, started_at, ended_at, worker = job
        failure = (
            jobkit_rq.load_failure(detail[jobkit_rq.FAILURE])
            if jobkit_rq.FAILURE in detail
            else None
        )
        if failure is None and not has_result:
            status, failure = _status_without_outcome(metadata, job_status)
        else:
            # The worker's record says more than RQ's bookkeeping, which follows a little later.
            status = TaskStatus.FAILURE if failure else TaskStatus.SUCCESS
        waits = status is TaskStatus.PENDING and queue is not None
        return StoredTask(
            task_id=task_id,
            metadata=metadata,
            status=status,
            place=await self._line.place(task_id, str(queue)) if waits else None,
            queue=queue if job_status else None,
            worker=worker or None,
            started_at=_started_at(metadata, status, started_at),
            ended_at=_ended_at(metadata, detail.get(jobkit_rq.ENDED_AT), ended_at),
            progress=_parsed(JobProgress, detail.get(jobkit_rq.PROGRESS)),
            result=_parsed(JobResult, detail.get(jobkit_rq.RESULT)),
            failure=failure,
        )

    async def add(self, task: Task) -> None:
        """Store the metadata of a new task, without its documents, which the job already has."""
        data = task.model_dump(mode="json", serialize_as_any=True, exclude={"sources"})
        data["processing_meta"] = TaskProcessingMeta(num_docs=len(task.sources)).model_dump()
        await self._put_metadata(task.task_id, data)

    async def forget_metadata(self, task_id: str) -> None:
        """Remove the metadata of a task that could not be queued."""
        await self._redis.delete(jobkit_rq.metadata_key(task_id))

    async def fail(self, task_id: str, failure: Failure) -> bool:
        """End a task permanently; False if its failure was already recorded."""
        async with self._redis.pipeline(transaction=True) as pipe:
            jobkit_rq.note_failure(pipe, self._config, task_id, failure)
            first, *_ = await pipe.execute()
        return bool(first)

    async def withdraw(self, stored: StoredTask) -> bool:
        """Take a job out of its queue; False if a worker was faster."""
        if stored.queue is None:
            return False
        lines = self._jobs.lines
        removed = await asyncio.to_thread(lines.discard, stored.task_id, stored.queue)
        if removed:
            await asyncio.to_thread(self._jobs.delete, stored.task_id)
        return removed

    async def expire(self, stored: StoredTask, within_s: int) -> None:
        """Release a task whose result a client has fetched: its job, documents included, now, and
        all else in ``within_s`` seconds. Later calls change nothing."""
        task_id = stored.task_id
        detail = jobkit_rq.detail_key(task_id)
        if not await self._redis.hsetnx(detail, jobkit_rq.FETCHED, "1"):
            return
        ttl_s = max(1, within_s)
        # Once the job is gone, other server implementations rely on the metadata.
        await self._put_metadata(task_id, _closed(stored), ttl_s)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.expire(jobkit_rq.result_key(self._config, task_id), ttl_s)
            pipe.expire(detail, ttl_s)
            await pipe.execute()
        await asyncio.to_thread(self._jobs.delete, task_id)

    async def delete(self, stored: StoredTask) -> None:
        """Forget a task that no worker has."""
        task_id = stored.task_id
        await asyncio.to_thread(self._jobs.delete, task_id)
        await self._redis.delete(
            jobkit_rq.metadata_key(task_id),
            jobkit_rq.detail_key(task_id),
            jobkit_rq.result_key(self._config, task_id),
        )

    async def mark_deleted(self, task_id: str) -> None:
        """Hide a task that a worker still has; that worker removes the rest when it releases it."""
        key = jobkit_rq.detail_key(task_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, jobkit_rq.DELETED, "1")
            pipe.expire(key, jobkit_rq.detail_ttl_s(self._config))
            pipe.delete(
                jobkit_rq.metadata_key(task_id), jobkit_rq.result_key(self._config, task_id)
            )
            await pipe.execute()

    async def close_metadata(self, stored: StoredTask) -> None:
        """Write the task's end where other server implementations look for it."""
        await self._put_metadata(stored.task_id, _closed(stored))

    async def packed_result(self, task_id: str) -> bytes | None:
        """The result as a worker stored it."""
        packed: Any = await self._redis.get(jobkit_rq.result_key(self._config, task_id))
        return bytes(packed) if packed is not None else None

    async def all_ids(self) -> AsyncIterator[str]:
        """Every task that has metadata."""
        async for key in self._redis.scan_iter(match=jobkit_rq.all_metadata_keys(), count=500):
            yield jobkit_rq.task_id_of(key.decode())

    async def _put_metadata(
        self, task_id: str, data: dict[str, Any], ttl_s: int | None = None
    ) -> None:
        await self._redis.set(
            jobkit_rq.metadata_key(task_id), json.dumps(data), ex=ttl_s or self._config.results_ttl
        )

    async def _metadata_of_job(self, task_id: str, *, keep: bool) -> dict[str, Any] | None:
        """The metadata, from the job itself: the stored copy expires first when a task waits for
        long. It is stored again for a task that still waits; otherwise it must not outlive the
        result."""
        task_data = await asyncio.to_thread(self._jobs.task_data, task_id)
        if task_data is None:
            return None
        sources = task_data.get("sources") or []
        data = {key: value for key, value in task_data.items() if key != "sources"}
        data["processing_meta"] = TaskProcessingMeta(num_docs=len(sources)).model_dump()
        data["task_status"] = TaskStatus.PENDING.value
        for secret in ("targets", "target", "callbacks"):
            data.pop(secret, None)  # a job holds them in the clear
        if keep:
            await self._put_metadata(task_id, data)
        return data


def _status_without_outcome(
    metadata: dict[str, Any], job_status: str | None
) -> tuple[TaskStatus, Failure | None]:
    """What RQ and the metadata say of a task for which no worker has left a record."""
    said = TaskStatus(metadata.get("task_status", TaskStatus.PENDING.value))
    message = metadata.get("error_message") or JOB_FAILED
    failed = Failure("internal", str(message))
    if job_status is None:
        if said is TaskStatus.SUCCESS:
            return said, None
        return TaskStatus.FAILURE, failed if said is TaskStatus.FAILURE else JOB_GONE
    status = _STATUS_OF_JOB.get(job_status, TaskStatus.FAILURE)
    return status, failed if status is TaskStatus.FAILURE else None


def _closed(stored: StoredTask) -> dict[str, Any]:
    """The metadata with the task's end in it."""
    ended_at = stored.ended_at or datetime.now(timezone.utc)
    started_at = stored.started_at
    return {
        **stored.metadata,
        "started_at": started_at.isoformat() if started_at else None,
        "task_status": stored.status.value,
        "error_message": stored.failure.message if stored.failure else None,
        "finished_at": ended_at.isoformat(),
    }


def _started_at(
    metadata: dict[str, Any], status: TaskStatus, job_started_at: str | None
) -> datetime | None:
    if status is TaskStatus.PENDING:
        return None  # an earlier attempt may have started
    if job_started_at:
        started: datetime = utcparse(job_started_at)
        return started
    return _moment(metadata.get("started_at"))


def _ended_at(
    metadata: dict[str, Any], noted: bytes | None, job_ended_at: str | None
) -> datetime | None:
    if noted is not None:
        return datetime.fromisoformat(noted.decode())
    if job_ended_at:
        ended: datetime = utcparse(job_ended_at)
        return ended
    return _moment(metadata.get("finished_at"))


def _parsed(model: Any, text: bytes | None) -> Any:
    return None if text is None else model.model_validate_json(text)
