"""The queues of tenants, as the dispatcher takes tasks from them and puts lost ones back."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from docling.datamodel.service.callbacks import CallbackSpec
from docling_jobkit.datamodel.task import Task
from docling_jobkit.orchestrators.serialization import dump_model_with_secrets

from docling_serve.engines.ray.store import RayTaskStore, StoredTask
from docling_serve.errors import Failure
from docling_serve.internals import jobkit_ray
from docling_serve.internals.jobkit_ray import (
    InvalidQueuedTaskError,
    RedisStateManager,
)

_log = logging.getLogger(__name__)

#: A lease without a heartbeat for so long has no actor any more. Actors renew it every 4 s.
_LEASE_S = 15.0

ACTOR_LOST = Failure(
    "internal",
    "The actor that ran the task was lost, and the task was not tried again.",
    retryable=True,
    details={"reason": "worker_lost"},
)
UNREADABLE = Failure("internal", "The queued task cannot be read.", phase="orchestration")


@dataclass(frozen=True)
class Ended:
    """A task that was ended without an actor, and the callbacks that it had."""

    task_id: str
    failure: Failure
    callbacks: list[CallbackSpec]


class TenantQueues:
    """Every method raises ``redis.RedisError`` if Redis is unavailable."""

    def __init__(self, state: RedisStateManager) -> None:
        self._state = state
        self._store = RayTaskStore(state)
        self._turns: deque[str] = deque()

    async def take(self) -> str | None:
        """The next task to run, now active: tenants take turns, each within its limits. None if
        there is no such task."""
        waiting = await self._state.get_all_tenants_with_tasks()
        turns = [tenant for tenant in self._turns if tenant in waiting]
        self._turns = deque([*turns, *(t for t in waiting if t not in turns)])
        for _ in range(len(self._turns)):
            tenant = self._turns[0]
            self._turns.rotate(-1)
            task_id = await self._take_from(tenant)
            if task_id is not None:
                return task_id
        return None

    async def waiting(self) -> int:
        """How many tasks wait that could run if an actor were free."""
        tenants = await self._state.get_all_tenants_with_tasks()
        count = 0
        for snapshot in await self._state.get_tenant_snapshots(tenants):
            room = snapshot.limits.max_concurrent_tasks - snapshot.active_count
            count += max(0, min(snapshot.queue_size, room))
        return count

    async def read(self, task_id: str) -> StoredTask | None:
        """The task as it is now."""
        return await self._store.read(task_id)

    async def put_back_or_end(self, task: StoredTask, retries: int) -> Ended | None:
        """Let a task whose actor was lost run again, or end it if that has happened ``retries``
        times. Returns the end."""
        callbacks = self._state.decode_dispatch_callbacks(
            await self._state.get_task_dispatch_hash(task.task_id)
        )
        payload = await self._store.payload(task.task_id)
        if not task.finished and task.retry_count < retries and payload is not None:
            entry = json.dumps({**payload, "sources": []})
            now = datetime.now(timezone.utc).isoformat()
            if await jobkit_ray.put_back(self._state, task, entry, now):
                _log.warning("task %s: its actor was lost; it is tried again", task.task_id)
            return None
        first = await self._store.fail(task, ACTOR_LOST)
        await self._store.drop_payload(task.task_id)
        if not first:
            return None
        _log.error("task %s: its actor was lost; it has failed", task.task_id)
        return Ended(task.task_id, ACTOR_LOST, callbacks)

    async def lost(self, followed: set[str]) -> list[StoredTask]:
        """Active tasks that are not ``followed`` and show no sign of life. Also corrects the
        counters of the tenants."""
        found = []
        for tenant in await self._state.get_all_tenants_with_active_tasks():
            for task_id in await self._state.get_tenant_active_task_ids(tenant):
                if task_id not in followed and await self._silent(task_id):
                    task = await self._store.read(task_id)
                    if task is None:  # deleted while it ran
                        await jobkit_ray.release(self._state, tenant, task_id)
                    else:
                        found.append(task)
            await self._state.resync_tenant_limits(tenant)
        return found

    async def show_life(self) -> None:
        """Write the dispatcher's heartbeat."""
        await self._state.update_dispatcher_heartbeat()

    async def _take_from(self, tenant: str) -> str | None:
        try:
            task = await self._state.peek_task(tenant)
        except InvalidQueuedTaskError as exc:
            await self._reject(exc)
            return None
        if task is None:
            return None
        task_id = task.task_id
        found = await self._store.read(task_id)
        size = found.task_size if found else len(task.sources)
        most = (await self._state.get_tenant_limits(tenant)).max_documents
        # A task with more documents than that runs alone, rather than never.
        asked = min(size, most) if most else size
        if not (await self._state.check_tenant_can_process(tenant, asked))[0]:
            return None
        redis = await jobkit_ray.connection(self._state)
        if task.sources:  # a server of another implementation queues the documents themselves
            await redis.set(jobkit_ray.payload_key(task_id), _dumped(task))
        if not await self._state.dispatch_task_atomic(tenant, task_id, size):
            return None
        await redis.expire(jobkit_ray.payload_key(task_id), self._state.processing_ttl)
        return task_id

    async def _silent(self, task_id: str) -> bool:
        lease: dict[str, Any] = await self._state.get_task_execution_lease(task_id) or {}
        dispatch = await self._state.get_task_dispatch_hash(task_id)
        latest = max(
            float(lease.get("heartbeat_at") or 0), float(dispatch.get("dispatched_at") or 0)
        )
        return time.time() - latest > _LEASE_S

    async def _reject(self, exc: InvalidQueuedTaskError) -> None:
        """Remove an entry that cannot be read, so that the ones behind it are not held up."""
        _log.error("tenant %s: a queued task cannot be read: %s", exc.tenant_id, exc.cause)
        removed = await self._state.remove_queued_task_payload(exc.tenant_id, exc.payload)
        if not removed or exc.task_id is None:
            return
        found = await self._store.read(exc.task_id)
        if found is not None:
            await self._store.fail(found, UNREADABLE)
        await self._store.drop_payload(exc.task_id)


def _dumped(task: Task) -> str:
    return json.dumps(dump_model_with_secrets(task, serialize_as_any=True))
