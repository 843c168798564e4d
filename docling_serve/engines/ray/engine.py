"""The ray engine: tasks queued in Redis, run by docling-jobkit's actors on a Ray cluster.

jobkit does the queueing, the fairness between tenants and the actors, and provides the processes
that convert; this module adds what the API needs. Importing it imports ray and torch.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import ray
from docling_jobkit.convert.manager import DoclingConverterManager, DoclingConverterManagerConfig
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
    TaskNotFoundError,
)
from docling_jobkit.orchestrators.ray.models import RedisTaskMetadata, TaskUpdate
from docling_jobkit.orchestrators.ray.orchestrator import (
    DispatcherUnavailableError,
    QueueLimitExceededError,
    RayOrchestrator,
)
from redis import RedisError

from docling_serve.engines.base import DEFAULT_TENANT, FINISHED, Reply, Submission, TaskView
from docling_serve.engines.ray.config import orchestrator_config
from docling_serve.engines.ray.metrics import TenantCollector
from docling_serve.engines.ray.store import RayTaskStore
from docling_serve.engines.redis.jobkit_tasks import rendered, task_of
from docling_serve.engines.redis.tasks import TasksInRedis, failed_view
from docling_serve.engines.redis.updates import UpdateListener
from docling_serve.engines.task_end import log_ended_view
from docling_serve.errors import DELETED, Failure, QueueFull
from docling_serve.internals import jobkit_ray
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import converter_config

_log = logging.getLogger(__name__)

_LOOK_AT_LIVENESS_EVERY_S = 5.0
_TRY_AGAIN_S = 5


class RayEngine(TasksInRedis, RayOrchestrator):
    """Tasks in Redis and on Ray. Creating it connects to nothing."""

    def __init__(self, settings: DoclingServeSettings) -> None:
        config = DoclingConverterManagerConfig.model_validate(converter_config(settings))
        RayOrchestrator.__init__(
            self, orchestrator_config(settings), DoclingConverterManager(config)
        )
        self._single_use_results = settings.single_use_results
        self._store = RayTaskStore(self.redis_manager)
        self.collector = TenantCollector(
            self.redis_manager, settings.eng_ray_tenant_metrics_refresh_interval
        )
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
        task = await asyncio.to_thread(task_of, submission, self.cm.config.allow_external_plugins)
        try:
            accepted = await RayOrchestrator.enqueue(
                self,
                sources=task.sources,
                task_type=task.task_type,
                convert_options=task.convert_options,
                chunking_options=task.chunking_options,
                chunking_export_options=task.chunking_export_options,
                callbacks=task.callbacks,
                metadata=task.metadata,
                targets=task.targets,
                target_document_version=task.target_document_version,
            )
        except QueueLimitExceededError as exc:
            raise QueueFull(str(exc), _TRY_AGAIN_S) from exc
        except (DispatcherUnavailableError, RedisError, OSError) as exc:
            _log.warning("a task cannot be accepted: %s", exc)
            raise RedisBackpressureError(str(exc)) from exc
        finally:
            self.tasks.clear()  # the state in Redis counts, not what this process remembers
        return await self.view_of_queued(accepted, submission.tenant)

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
        """End a task. A waiting task is not run; a running conversion continues to its end, and its
        result is discarded."""
        found = await self._find(task_id, tenant)
        if found.status in FINISHED:
            return await self._view(found)
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            ended = await self._store.fail(found, failure)
            view = await self._store.view(found)
        if not ended:
            return await self.view(task_id, tenant)
        view = failed_view(view, failure)
        log_ended_view(_log, view)
        return view

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
                if task.status in FINISHED and ended_at < before:
                    await self._store.delete(task.task_id)

    async def clear_converters(self) -> None:
        """Does nothing: jobkit has no way to ask its actors for it."""
        _log.debug("converters on Ray keep what they hold; Ray ends idle replicas")

    # ---- life cycle -------------------------------------------------------------------------

    async def process_queue(self) -> None:
        """Keep the dispatcher alive and follow what the actors do, for as long as the server runs.

        Raises:
            DispatcherUnavailableError: it was absent for ``eng_ray_liveness_fail_after``.
        """
        await self.redis_manager.connect()  # type: ignore[no-untyped-call]
        listener = UpdateListener(
            jobkit_ray.updates_connection(self.redis_manager),
            self.config.sub_channel,
            self._watches,
            TaskUpdate.model_validate_json,
            _nothing_more,
        )
        await asyncio.gather(
            self._supervise_dispatcher(),
            listener.run(),
            self._watches.keep_told(),
            self._watch_liveness(),
            self.collector.follow(),
        )

    async def close(self) -> None:
        """Disconnect from Redis and the cluster; a cluster this server started ends with it."""
        self.drain()
        self.cancel_running()
        with suppress(Exception):
            await self._run_ray_admin(ray.shutdown)
        await self.shutdown()  # type: ignore[no-untyped-call]

    async def _watch_liveness(self) -> None:
        while self.is_liveness_healthy():  # noqa: ASYNC110 - jobkit keeps a moment, no event
            await asyncio.sleep(_LOOK_AT_LIVENESS_EVERY_S)
        raise DispatcherUnavailableError("Ray's dispatcher was unavailable for too long")

    # ---- internals --------------------------------------------------------------------------

    async def _find(self, task_id: str, tenant: str) -> RedisTaskMetadata:
        async with self.at_redis(self.config.redis_gate_status_poll_wait_timeout):
            found = await self._store.read(task_id)
        if found is None or found.tenant_id != tenant:
            raise TaskNotFoundError
        return found

    async def _view(self, found: RedisTaskMetadata) -> TaskView:
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


async def _nothing_more(_: Any) -> None:
    """An update that carries no state: everything is read from Redis."""
