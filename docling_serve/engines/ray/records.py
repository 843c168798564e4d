"""What an actor reads and writes of its tasks in Redis."""

from __future__ import annotations

from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.ray.store import RayTaskStore, StoredTask
from docling_serve.engines.redis.task_runner import GIVEN_AWAY
from docling_serve.errors import DELETED, Failure
from docling_serve.internals import jobkit_ray
from docling_serve.internals.jobkit_ray import RedisStateManager, TaskUpdate
from docling_serve.jobs.spec import JobProgress, JobResult


class RayTaskRecords:
    """See :class:`docling_serve.engines.redis.task_runner.TaskRecords`. ``host`` is the name of
    the actor. ``pulse`` gives up within seconds."""

    def __init__(self, state: RedisStateManager, pulse: RedisStateManager, host: str) -> None:
        self._state = state
        self._store = RayTaskStore(state)
        self._pulse = pulse
        self._pulse_store = RayTaskStore(pulse)
        self._host = host

    async def ended(self, task_id: str) -> Failure | None:
        """The failure with which the task was ended elsewhere."""
        return _ended(await self._store.read(task_id))

    async def begin(self, task_id: str) -> None:
        """The task has started, here."""
        found = await self._store.read(task_id)
        if found is None:
            return
        await jobkit_ray.connection(self._state)
        await self._state.write_task_execution_lease(task_id, found.tenant_id, self._host)
        await self._state.mark_task_started(task_id, found.tenant_id)
        await self._state.publish_update(
            TaskUpdate(task_id=task_id, task_status=TaskStatus.STARTED)
        )

    async def beat(self, task_id: str, expires_s: int) -> Failure | None:
        """Show that the task has an actor; returns what :meth:`ended` returns."""
        del expires_s  # the lease has a time, which the dispatcher compares
        found = await self._pulse_store.read(task_id)
        owner = await self._owner(task_id)
        if owner == self._host:
            await self._pulse.update_task_execution_heartbeat(task_id)
            redis = await jobkit_ray.connection(self._pulse)
            await redis.expire(jobkit_ray.payload_key(task_id), self._pulse.processing_ttl)
        elif owner is not None:
            return GIVEN_AWAY
        return _ended(found)

    async def note_progress(self, task_id: str, progress: JobProgress) -> None:
        """Write and announce what the task has reached."""
        found = await self._store.read(task_id)
        if found is not None and not found.finished:
            await self._store.note_progress(found, progress)

    async def succeed(self, task_id: str, result: JobResult, packed: bytes) -> str:
        """Write and announce the result; returns its key."""
        found = await self._store.read(task_id)
        if found is None:
            return ""
        key = await self._store.succeed(found, result, packed)
        await self._store.drop_payload(task_id)
        return key

    async def fail(self, task_id: str, failure: Failure) -> bool:
        """Write and announce the failure; False if the task is not this actor's any more."""
        found = await self._store.read(task_id)
        if found is None:
            await self._store.drop_payload(task_id)
            return True
        if not found.finished and await self._owner(task_id) != self._host:
            return False
        # Also for a task that others have ended: this frees the place that it took.
        await self._store.fail(found, failure)
        await self._store.drop_payload(task_id)
        return True

    def forget(self, task_id: str) -> None:
        """Does nothing: what is kept of a task is in Redis."""

    async def _owner(self, task_id: str) -> str | None:
        lease = await self._pulse.get_task_execution_lease(task_id)
        return lease.get("replica_id") if lease else None


def _ended(found: StoredTask | None) -> Failure | None:
    if found is None:
        return DELETED
    if found.status is TaskStatus.SUCCESS:
        return GIVEN_AWAY
    return found.ended_with
