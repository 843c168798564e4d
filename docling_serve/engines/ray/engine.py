"""The ray engine: tasks queued in Redis by any gateway, run by actors on a Ray cluster.

The queues, limits and counters of tenants are docling-jobkit's. Its orchestrator is not used: a
dispatcher of ours on the cluster gives tasks to actors, and each actor runs them through the gate.
A gateway needs only Redis to accept and to answer.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
    TaskNotFoundError,
)
from redis import RedisError

from docling_serve.engines.base import DEFAULT_TENANT, OnCallback, Reply, Submission, TaskView
from docling_serve.engines.ray.cluster import ClusterUnavailable, RayCluster
from docling_serve.engines.ray.config import orchestrator_config
from docling_serve.engines.ray.metrics import TenantCollector
from docling_serve.engines.ray.store import RayTaskStore, StoredTask
from docling_serve.engines.redis.jobkit_tasks import rendered, task_of
from docling_serve.engines.redis.task_runner import callbacks_of
from docling_serve.engines.redis.tasks import TasksInRedis, failed_view
from docling_serve.engines.redis.updates import UpdateListener
from docling_serve.engines.task_end import ended_event, log_ended_view
from docling_serve.errors import DELETED, Failure, QueueFull
from docling_serve.internals import jobkit_ray
from docling_serve.internals.jobkit_ray import TaskUpdate
from docling_serve.internals.jobkit_redis import RedisCallerGate
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

_TRY_AGAIN_S = 5
_PING_WITHIN_S = 5.0


class RayEngine(TasksInRedis):
    """Tasks in Redis and on Ray. Creating it connects to nothing."""

    def __init__(
        self,
        settings: DoclingServeSettings,
        cluster: RayCluster,
        on_callback: OnCallback = lambda *_: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.config = orchestrator_config(settings)
        assert self.config.redis_gate_concurrency is not None
        self._redis_gate = RedisCallerGate(self.config.redis_gate_concurrency)
        self._plugins = settings.allow_external_plugins
        self._single_use_results = settings.single_use_results
        self._on_callback = on_callback
        self._cluster = cluster
        self.state = jobkit_ray.state_manager(self.config, allow_external_plugins=self._plugins)
        self._store = RayTaskStore(self.state)
        self.collector = TenantCollector(
            self.state, settings.eng_ray_tenant_metrics_refresh_interval
        )
        self.listener: UpdateListener[TaskUpdate] | None = None
        self.share(self._look)

    # ---- API --------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> TaskView:
        """Put the task, documents included, into the queue of its tenant.

        Raises:
            ShuttingDown: no task is accepted any more.
            QueueFull: the tenant has as many tasks as it may have.
            RedisBackpressureError: Redis or the dispatcher is unavailable now.
        """
        self.require_accepting()
        try:
            self._cluster.require_alive()
        except ClusterUnavailable as exc:
            raise RedisBackpressureError(str(exc)) from exc
        task = await asyncio.to_thread(task_of, submission, self._plugins)
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            await self._require_room(submission.tenant, len(task.sources))
            await self._store.add(task, submission.tenant)
        _log.info("task %s: accepted, %d document(s)", task.task_id, len(task.sources))
        return await self.view_of_queued(task, submission.tenant)

    async def view(self, task_id: str, tenant: str = DEFAULT_TENANT) -> TaskView:
        return await self._view(await self._find(task_id, tenant))

    async def list_tasks(
        self, tenant: str, state: TaskStatus | None = None, limit: int = 100
    ) -> list[TaskView]:
        """Reads every task in Redis, so it is for interactive use, not for polling."""
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            found = [
                task
                async for task in self._store.all()
                if task.tenant_id == tenant and state in (None, task.status)
            ]
            found.sort(key=lambda task: task.created_at, reverse=True)
            return [await self._store.view(task) for task in found[:limit]]

    async def reply(self, task_id: str, tenant: str = DEFAULT_TENANT) -> Reply | None:
        found = await self._find(task_id, tenant)
        if found.status is not TaskStatus.SUCCESS:
            return None
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            result = await self._store.result(task_id)
        if result is None:
            return None
        return await asyncio.to_thread(rendered, result, found.target_document_version)

    async def cancel(self, task_id: str, tenant: str, failure: Failure) -> TaskView:
        return await self._end(await self._find(task_id, tenant), failure)

    async def delete(self, task_id: str, tenant: str) -> TaskView:
        view = await self.cancel(task_id, tenant, DELETED)
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            await self._store.delete(task_id)
        self._watches.is_stale(task_id)
        return view

    async def on_result_fetched(self, task_id: str) -> None:
        if not self._single_use_results:
            return
        try:
            await self._store.expire(task_id, self.config.result_removal_delay)
        except (RedisError, OSError) as exc:
            _log.warning("task %s: its result stays until it expires: %s", task_id, exc)

    async def clear_results(self, older_than: float = 0.0, tenant: str | None = None) -> None:
        before = datetime.now(timezone.utc) - timedelta(seconds=older_than)
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            async for task in self._store.all():
                ended_at = task.finished_at or task.last_update_at
                if tenant not in (None, task.tenant_id):
                    continue
                if task.finished and ended_at < before:
                    await self._store.delete(task.task_id)

    async def clear_converters(self) -> None:
        """Ask all actors to free what loaded converters hold."""
        try:
            await self._cluster.clear()
        except ClusterUnavailable as exc:
            raise RedisBackpressureError(str(exc)) from exc

    async def check_connection(self) -> None:
        """Raises ``RuntimeError`` when Redis or Ray's dispatcher does not answer."""
        try:
            redis = await jobkit_ray.connection(self.state)
            await asyncio.wait_for(redis.ping(), _PING_WITHIN_S)
        except (RedisError, OSError, asyncio.TimeoutError) as exc:
            raise RuntimeError(f"No connection to Redis: {exc or 'no answer'}") from exc
        self._cluster.require_reachable()

    # ---- life cycle -------------------------------------------------------------------------

    async def process_queue(self) -> None:
        """Keep a dispatcher on the cluster and follow what the actors do, for as long as the server
        runs.

        Raises:
            ClusterUnavailable: it was away for ``eng_ray_liveness_fail_after``.
        """
        await asyncio.gather(self._cluster.supervise(), self.follow(), self.collector.follow())

    async def follow(self) -> None:
        """Follow what the actors do."""
        await jobkit_ray.connection(self.state)
        self.listener = UpdateListener(
            jobkit_ray.blocking_connection(self.state),
            self.config.sub_channel,
            self._watches,
            TaskUpdate.model_validate_json,
            _nothing_more,
        )
        await asyncio.gather(self.listener.run(), self._watches.keep_told())

    async def close(self) -> None:
        """Disconnect from Redis and the cluster; a cluster this server started ends with it."""
        self.drain()
        self.cancel_running()
        await self._cluster.close()
        await self.state.disconnect()  # type: ignore[no-untyped-call]

    # ---- internals --------------------------------------------------------------------------

    async def _require_room(self, tenant: str, documents: int) -> None:
        room, reason = await self.state.check_tenant_can_enqueue(tenant, documents)
        if room:
            return
        if self.config.enable_queue_limit_rejection:
            raise QueueFull(f"Queue limit exceeded for tenant {tenant}: {reason}", _TRY_AGAIN_S)
        _log.warning("tenant %s is over its limit, and its task is queued: %s", tenant, reason)

    async def _end(self, found: StoredTask, failure: Failure) -> TaskView:
        """End a task that has not finished."""
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            if found.finished:
                return await self._store.view(found)
            callbacks = await self._callbacks_of(found)
            # This goes first: an actor checks it before it starts, and while it works.
            ended = await self._store.fail(found, failure)
            withdrawn = await self._store.withdraw(found)
            if withdrawn:
                await self._store.drop_payload(found.task_id)
            now = await self._store.read(found.task_id) or found
            view = await self._store.view(now)
        if not ended:
            return view
        view = failed_view(view, failure)
        if withdrawn:  # otherwise the actor reports the end
            log_ended_view(_log, view)
            if callbacks:
                self._on_callback(found.task_id, callbacks, ended_event(failure))
        return view

    async def _callbacks_of(self, found: StoredTask) -> list[Any]:
        """The callbacks of a task that waits: no actor will notify them."""
        if found.status is not TaskStatus.PENDING:
            return []
        return callbacks_of(await self._store.payload(found.task_id) or {})

    async def _find(self, task_id: str, tenant: str) -> StoredTask:
        async with self.at_redis(self.config.redis_gate_status_poll_wait_timeout):
            found = await self._store.read(task_id)
        if found is None or found.tenant_id != tenant:
            raise TaskNotFoundError
        return found

    async def _view(self, found: StoredTask) -> TaskView:
        async with self.at_redis(self.config.redis_gate_status_poll_wait_timeout):
            return await self._store.view(found)

    async def _look(self, task_id: str) -> TaskView | None:
        found = await self._store.read(task_id)
        return await self._store.view(found) if found else None

    async def get_raw_task(self, task_id: str) -> Task:
        async with self.at_redis(self.config.redis_gate_status_poll_wait_timeout):
            found = await self._store.read(task_id)
        if found is None:
            raise TaskNotFoundError(task_id)
        return found.to_task()

    # ---- the rest of jobkit's interface -----------------------------------------------------

    async def task_status(self, task_id: str, wait: float = 0.0) -> Task:
        task = await self.get_raw_task(task_id)
        await self.wait_finished(task_id, task.metadata.get("tenant_id", DEFAULT_TENANT), wait)
        return await self.get_raw_task(task_id)

    async def task_result(self, task_id: str) -> DoclingTaskResult | None:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            return await self._store.result(task_id)

    async def delete_task(self, task_id: str) -> None:
        """Forget a task of any tenant; a running one is cancelled first."""
        with suppress(TaskNotFoundError):
            task = await self.get_raw_task(task_id)
            await self.delete(task_id, task.metadata.get("tenant_id", DEFAULT_TENANT))

    async def queue_size(self) -> int:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            tenants = await self.state.get_all_tenants_with_tasks()
            return sum([await self.state.get_tenant_queue_size(name) for name in tenants])

    async def get_queue_position(self, task_id: str) -> int | None:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            found = await self._store.read(task_id)
            return (await self._store.view(found)).position if found else None

    async def warm_up_caches(self) -> None:
        """Does nothing: actors decide what is loaded, and when."""


async def _nothing_more(_: Any) -> None:
    """An update that carries no state: everything is read from Redis."""
