"""Tasks of the Ray engine in Redis, as a gateway adds, reads and ends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from docling.datamodel.service.responses import PublicFailureInfo
from docling.datamodel.service.tasks import TaskProcessingMeta
from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.datamodel.stored_outcome import StoredSuccessOutcome
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.serialization import dump_model_with_secrets
from redis import RedisError

from docling_serve.engines.base import FINISHED, TaskView
from docling_serve.engines.redis.jobkit_tasks import LIGHT, NAMES
from docling_serve.errors import Failure
from docling_serve.internals import jobkit_ray
from docling_serve.internals.jobkit_ray import RedisStateManager, RedisTaskMetadata, TaskUpdate
from docling_serve.jobs.rendering import public_failure
from docling_serve.jobs.spec import JobProgress, JobResult


class StoredTask(RedisTaskMetadata):
    """A task as Redis has it, with what its actor reported."""

    progress: JobProgress | None = None
    result: JobResult | None = None
    names: tuple[str, ...] = ()
    light: bool = False

    @property
    def ended_with(self) -> Failure | None:
        """The failure of a failed task."""
        if self.status is not TaskStatus.FAILURE:
            return None
        told: PublicFailureInfo | None = self.failure
        if told is None:
            return Failure("internal", self.error_message or "Internal processing error.")
        return Failure(
            told.category.value, told.message, told.retryable, told.phase.value, dict(told.details)
        )

    @property
    def finished(self) -> bool:
        """Whether the task has finished."""
        return self.status in FINISHED


class RayTaskStore:
    """Every method raises ``redis.RedisError`` if Redis is unavailable."""

    def __init__(self, state: RedisStateManager) -> None:
        self._state = state

    async def add(self, task: Task, tenant: str) -> None:
        """Queue a new task. The queue itself holds no documents: it is read often."""
        task_id = task.task_id
        redis = await jobkit_ray.connection(self._state)
        await redis.set(jobkit_ray.payload_key(task_id), await asyncio.to_thread(_dumped, task))
        try:
            await self._state.set_task_metadata(
                task_id=task_id,
                tenant_id=tenant,
                task_type=task.task_type,
                task_size=len(task.sources),
                target_document_version=task.target_document_version,
            )
            await jobkit_ray.note(
                self._state,
                task_id,
                **{
                    jobkit_ray.NAMES: json.dumps(task.metadata.get(NAMES) or []),
                    jobkit_ray.LIGHT: json.dumps(bool(task.metadata.get(LIGHT))),
                },
            )
            await self._state.enqueue_task(tenant, task.model_copy(update={"sources": []}))
        except BaseException:
            with suppress(RedisError, OSError):
                await jobkit_ray.delete(self._state, task_id)
                await redis.delete(jobkit_ray.payload_key(task_id))
            raise
        async with redis.pipeline(transaction=True) as pipe:
            pipe.lpush(jobkit_ray.WAKE_KEY, task_id)
            pipe.ltrim(jobkit_ray.WAKE_KEY, 0, 0)
            await pipe.execute()

    async def read(self, task_id: str) -> StoredTask | None:
        """The task as it is now; None if it does not exist."""
        fields = await self._state.get_task_metadata(task_id)
        found = StoredTask.from_redis_mapping(fields)
        if not isinstance(found, StoredTask):
            return None
        found.progress = _parsed(JobProgress, fields.get(jobkit_ray.PROGRESS))
        found.result = _parsed(JobResult, fields.get(jobkit_ray.RESULT))
        found.names = tuple(json.loads(fields.get(jobkit_ray.NAMES, "[]")))
        found.light = json.loads(fields.get(jobkit_ray.LIGHT, "false"))
        return found

    async def view(self, found: StoredTask) -> TaskView:
        """The task as the API shows it. The position is that of the tenant's last task."""
        position = None
        if found.status is TaskStatus.PENDING:
            position = await self._state.get_tenant_queue_size(found.tenant_id) or None
        return TaskView(
            task_id=found.task_id,
            task_type=found.task_type,
            status=found.status,
            position=position,
            light=found.light,
            names=found.names,
            num_docs=found.task_size,
            progress=found.progress,
            result=found.result,
            failure=found.ended_with,
            created_at=found.created_at,
            started_at=found.started_at,
            finished_at=found.finished_at,
        )

    async def all(self) -> AsyncIterator[StoredTask]:
        """All tasks."""
        async for task_id in jobkit_ray.task_ids(self._state):
            found = await self.read(task_id)
            if found is not None:
                yield found

    async def payload(self, task_id: str) -> dict[str, Any] | None:
        """The whole task as it was submitted; None once it has ended."""
        redis = await jobkit_ray.connection(self._state)
        text = await redis.get(jobkit_ray.payload_key(task_id))
        return None if text is None else await asyncio.to_thread(json.loads, text)

    async def drop_payload(self, task_id: str) -> None:
        """Drop the documents of a task that has ended."""
        redis = await jobkit_ray.connection(self._state)
        await redis.delete(jobkit_ray.payload_key(task_id))

    async def result(self, task_id: str) -> DoclingTaskResult | None:
        """The result of a successful task; None for any other."""
        outcome = await self._state.get_task_outcome(task_id)
        if isinstance(outcome, StoredSuccessOutcome):
            return outcome.result
        return outcome if isinstance(outcome, DoclingTaskResult) else None

    async def fail(self, found: RedisTaskMetadata, failure: Failure) -> bool:
        """End a task permanently, and announce it: the actor that has the task then stops it.
        False if it had already finished."""
        public = public_failure(failure)
        ended = await self._state.finalize_task_failure_atomic(
            found.tenant_id, found.task_id, found.task_size, failure.message, public
        )
        if not ended.status_changed:
            return False
        await self._count(found, failed=found.task_size)
        await self._state.publish_update(
            TaskUpdate(
                task_id=found.task_id,
                task_status=TaskStatus.FAILURE,
                error_message=failure.message,
                failure=public,
            )
        )
        return True

    async def succeed(self, found: RedisTaskMetadata, result: JobResult, packed: bytes) -> str:
        """End a task with a result, and announce it, unless it had already finished; returns the
        key of the result."""
        key = jobkit_ray.result_key(self._state, found.task_id)
        ended = await jobkit_ray.finish(self._state, found, packed)
        if ended.status_changed:
            await jobkit_ray.note(
                self._state, found.task_id, **{jobkit_ray.RESULT: result.model_dump_json()}
            )
            await self._count(
                found, succeeded=result.num_converted - result.num_failed, failed=result.num_failed
            )
            await self._state.publish_update(
                TaskUpdate(task_id=found.task_id, task_status=TaskStatus.SUCCESS, result_key=key)
            )
        return key

    async def note_progress(self, found: RedisTaskMetadata, progress: JobProgress) -> None:
        """Write and announce what a running task has reached."""
        await jobkit_ray.note(
            self._state, found.task_id, **{jobkit_ray.PROGRESS: progress.model_dump_json()}
        )
        done = TaskProcessingMeta(
            num_docs=progress.num_docs, num_processed=max(0, progress.document - 1)
        )
        await self._state.publish_update(
            TaskUpdate(task_id=found.task_id, task_status=TaskStatus.STARTED, progress=done)
        )

    async def withdraw(self, found: RedisTaskMetadata) -> bool:
        """Remove a task from its tenant's queue; False if it is not there."""
        return await jobkit_ray.withdraw(self._state, found.tenant_id, found.task_id)

    async def expire(self, task_id: str, within_s: int) -> None:
        """Release a task whose result a client has fetched."""
        await jobkit_ray.expire(self._state, task_id, within_s)

    async def delete(self, task_id: str) -> None:
        """Forget a finished task."""
        await jobkit_ray.delete(self._state, task_id)

    async def _count(self, found: RedisTaskMetadata, *, succeeded: int = 0, failed: int) -> None:
        await self._state.update_tenant_stats(
            found.tenant_id,
            delta_total_tasks=1,
            delta_total_documents=succeeded + failed,
            delta_successful_documents=succeeded,
            delta_failed_documents=failed,
        )


def _dumped(task: Task) -> str:
    return json.dumps(dump_model_with_secrets(task, serialize_as_any=True))


def _parsed(model: Any, text: str | None) -> Any:
    return None if text is None else model.model_validate_json(text)
