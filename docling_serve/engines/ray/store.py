"""Tasks of docling-jobkit's ``ray`` orchestrator, read and ended in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

from docling.datamodel.service.responses import PublicFailureInfo
from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.datamodel.stored_outcome import StoredSuccessOutcome
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.ray.models import RedisTaskMetadata, TaskUpdate
from docling_jobkit.orchestrators.ray.redis_helper import RedisStateManager

from docling_serve.engines.base import TaskView
from docling_serve.errors import Failure
from docling_serve.internals import jobkit_ray
from docling_serve.jobs.rendering import public_failure


class RayTaskStore:
    """Reads and ends tasks. Every method raises ``redis.RedisError`` if Redis is unavailable."""

    def __init__(self, state: RedisStateManager) -> None:
        self._state = state

    async def read(self, task_id: str) -> RedisTaskMetadata | None:
        """The task as it is now; None if it does not exist."""
        return await self._state.get_task_metadata_model(task_id)

    async def view(self, found: RedisTaskMetadata) -> TaskView:
        """The task as the API shows it. The position is that of the tenant's last task: the queue
        holds whole documents, so it is not searched."""
        position = None
        if found.status is TaskStatus.PENDING:
            position = await self._state.get_tenant_queue_size(found.tenant_id) or None
        return TaskView(
            task_id=found.task_id,
            task_type=found.task_type,
            status=found.status,
            position=position,
            num_docs=found.task_size,
            failure=_failure(found),
            created_at=found.created_at,
            started_at=found.started_at,
            finished_at=found.finished_at,
        )

    async def all(self) -> AsyncIterator[RedisTaskMetadata]:
        """All tasks."""
        async for task_id in jobkit_ray.task_ids(self._state):
            found = await self.read(task_id)
            if found is not None:
                yield found

    async def result(self, task_id: str) -> DoclingTaskResult | None:
        """The result of a successful task; None for any other."""
        outcome = await self._state.get_task_outcome(task_id)
        if isinstance(outcome, StoredSuccessOutcome):
            return outcome.result
        return outcome if isinstance(outcome, DoclingTaskResult) else None

    async def fail(self, found: RedisTaskMetadata, failure: Failure) -> bool:
        """End a task permanently; False if it had already finished. A running conversion is not
        stopped, for jobkit has no way to, but its result is discarded."""
        public = public_failure(failure)
        ended = await self._state.finalize_task_failure_atomic(
            found.tenant_id, found.task_id, found.task_size, failure.message, public
        )
        if found.status is TaskStatus.PENDING:
            await jobkit_ray.withdraw(self._state, found)
        if ended.status_changed:
            await self._state.publish_update(
                TaskUpdate(
                    task_id=found.task_id,
                    task_status=TaskStatus.FAILURE,
                    error_message=failure.message,
                    failure=public,
                )
            )
        return bool(ended.status_changed)

    async def expire(self, task_id: str, within_s: int) -> None:
        """Release a task whose result a client has fetched."""
        await jobkit_ray.expire(self._state, task_id, within_s)

    async def delete(self, task_id: str) -> None:
        """Forget a finished task."""
        await jobkit_ray.delete(self._state, task_id)


def _failure(found: RedisTaskMetadata) -> Failure | None:
    if found.status is not TaskStatus.FAILURE:
        return None
    told: PublicFailureInfo | None = found.failure
    if told is None:
        return Failure("internal", found.error_message or "Internal processing error.")
    return Failure(
        told.category.value, told.message, told.retryable, told.phase.value, dict(told.details)
    )
