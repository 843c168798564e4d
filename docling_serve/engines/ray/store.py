"""Tasks of docling-jobkit's ``ray`` orchestrator as they stand in Redis.

===================================  =========================================================
``task:<id>``                        hash, a ``RedisTaskMetadata``
``tenant:<tenant>:tasks``            list of the tasks that wait, as JSON
``<prefix>:task:<id>:result``        msgpack of how the task ended
===================================  =========================================================
"""

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
from docling_serve.jobs.rendering import public_failure

_TASK = "task:"

#: Looks through the queue where it is: its entries hold whole documents. Ids are random, so an
#: entry that has one is that task's.
_WITHDRAW = """
for index = 0, redis.call('LLEN', KEYS[1]) - 1 do
  local entry = redis.call('LINDEX', KEYS[1], index)
  if entry and string.find(entry, ARGV[1], 1, true) then
    redis.call('LREM', KEYS[1], 1, entry)
    redis.call('HINCRBY', KEYS[2], 'queued_tasks', -1)
    return 1
  end
end
return 0
"""


class RayTaskStore:
    """Reads and ends tasks. Every method raises ``redis.RedisError`` when Redis is not there."""

    def __init__(self, state: RedisStateManager) -> None:
        self._state = state

    async def read(self, task_id: str) -> RedisTaskMetadata | None:
        """The task as it is now; None when there is none."""
        return await self._state.get_task_metadata_model(task_id)

    async def view(self, found: RedisTaskMetadata) -> TaskView:
        """The task as the API shows it. The position is that of the tenant's last task: the queue
        holds whole documents, so nobody looks through it."""
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
        """Every task there is."""
        async for key in self._state._ensure_redis().scan_iter(match=f"{_TASK}*", count=500):
            task_id = key.decode().removeprefix(_TASK)
            found = None if ":" in task_id else await self.read(task_id)
            if found is not None:
                yield found

    async def result(self, task_id: str) -> DoclingTaskResult | None:
        """The result of a successful task; None for any other."""
        outcome = await self._state.get_task_outcome(task_id)
        if isinstance(outcome, StoredSuccessOutcome):
            return outcome.result
        return outcome if isinstance(outcome, DoclingTaskResult) else None

    async def fail(self, found: RedisTaskMetadata, failure: Failure) -> bool:
        """End a task for good; False if it had ended. A conversion that runs is not stopped, for
        which jobkit has no way, but what comes of it is thrown away."""
        public = public_failure(failure)
        ended = await self._state.finalize_task_failure_atomic(
            found.tenant_id, found.task_id, found.task_size, failure.message, public
        )
        await self._withdraw(found)
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
        """Let a task go that a client has fetched."""
        redis = self._state._ensure_redis()
        for key in (f"{_TASK}{task_id}", self._result_key(task_id)):
            await redis.expire(key, max(1, within_s), lt=True)

    async def delete(self, task_id: str) -> None:
        """Forget a finished task."""
        await self._state._ensure_redis().delete(f"{_TASK}{task_id}", self._result_key(task_id))

    def _result_key(self, task_id: str) -> str:
        return f"{self._state.results_prefix}:task:{task_id}:result"

    async def _withdraw(self, found: RedisTaskMetadata) -> None:
        """Take a task out of its tenant's queue, if it is there."""
        if found.status is not TaskStatus.PENDING:
            return
        tenant = f"tenant:{found.tenant_id}"
        withdraw = self._state._ensure_redis().register_script(_WITHDRAW)
        await withdraw(keys=[f"{tenant}:tasks", f"{tenant}:limits"], args=[found.task_id])


def _failure(found: RedisTaskMetadata) -> Failure | None:
    if found.status is not TaskStatus.FAILURE:
        return None
    told: PublicFailureInfo | None = found.failure
    if told is None:
        return Failure("internal", found.error_message or "Internal processing error.")
    return Failure(
        told.category.value, told.message, told.retryable, told.phase.value, dict(told.details)
    )
