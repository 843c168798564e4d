"""The process of a task actor: tasks from Redis, through the gate, into its worker pool."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import redis
from docling_jobkit.datamodel.task_meta import TaskStatus
from redis import RedisError

from docling_serve.callbacks.delivery import CallbackDelivery, CallbackRules
from docling_serve.engines.base import TaskView
from docling_serve.engines.ray.config import orchestrator_config
from docling_serve.engines.ray.host_parts import HostParts
from docling_serve.engines.ray.records import RayTaskRecords
from docling_serve.engines.ray.store import RayTaskStore
from docling_serve.engines.redis.task_runner import PROMPT, TaskRunner, TaskSetup
from docling_serve.engines.redis.updates import UpdateListener, Watches
from docling_serve.engines.task_end import log_end
from docling_serve.errors import Failure, TaskFailed
from docling_serve.internals import jobkit_ray
from docling_serve.jobs.run_request import Gate, RunRequest
from docling_serve.jobs.spec import JobResult
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import converter_config, presigned_config
from docling_serve.storage import Scratch

_log = logging.getLogger(__name__)

_PULSE_LIMIT_S = 5.0


class Host:
    """Runs tasks. ``name`` is the actor's, which it leaves on each of its tasks in Redis."""

    def __init__(self, settings: DoclingServeSettings, parts: HostParts, name: str) -> None:
        config = orchestrator_config(settings)
        plugins = settings.allow_external_plugins
        limits = {
            "redis_socket_timeout": _PULSE_LIMIT_S,
            "redis_socket_connect_timeout": _PULSE_LIMIT_S,
        }
        self._settings = settings
        self._parts = parts
        self._state = jobkit_ray.state_manager(config, allow_external_plugins=plugins)
        self._pulse = jobkit_ray.state_manager(
            config.model_copy(update=limits), allow_external_plugins=plugins
        )
        self._store = RayTaskStore(self._state)
        self._records = RayTaskRecords(self._state, self._pulse, name)
        self._scratch = Scratch(settings.eng_ray_scratch_dir, parts.guardian)
        self._callbacks = CallbackDelivery(CallbackRules.from_settings(settings))
        self._counting = redis.Redis.from_url(config.redis_url, socket_timeout=_PULSE_LIMIT_S)
        self._runner = TaskRunner(
            limited(parts.gate, settings.eng_ray_task_timeout),
            self._records,
            self._callbacks,
            TaskSetup(
                folders=self._scratch.tasks,
                converter_config=converter_config(settings),
                presigned_config=presigned_config(settings),
                debug_error_details=settings.debug_error_details,
                liveness=PROMPT,
                waiting=lambda: jobkit_ray.count_waiting(self._counting),
            ),
        )
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, listen for tasks that are ended elsewhere, and warm up."""
        await jobkit_ray.connection(self._state)
        await jobkit_ray.connection(self._pulse)
        listener = UpdateListener(
            jobkit_ray.blocking_connection(self._state),
            self._state.sub_channel,
            Watches(_nothing, lambda view: view),
            jobkit_ray.TaskUpdate.model_validate_json,
            self._on_update,
        )
        self._listening = asyncio.create_task(listener.run())
        self._parts.runner.work_in(self._scratch.workers)
        await self._parts.prepare()

    @property
    def running(self) -> list[str]:
        """The tasks that run now."""
        return list(self._ends)

    async def run(self, task_id: str) -> None:
        """Run a task to its end, whatever that is; if it runs already, wait for its end."""
        end = self._ends.get(task_id)
        if end is None:
            end = self._ends[task_id] = asyncio.create_task(self._run(task_id))
            end.add_done_callback(lambda _: self._ends.pop(task_id, None))
        await asyncio.shield(end)

    async def clear(self) -> None:
        """Free what loaded converters hold."""
        await self._parts.runner.clear()

    async def close(self) -> None:
        """Shut down what runs tasks."""
        if self._listening is not None:
            self._listening.cancel()
        try:
            await self._parts.runner.close()
            await self._callbacks.close(within_s=self._settings.shutdown_grace)
        finally:
            self._parts.runner.kill()
            self._scratch.release()
            self._parts.guardian.dismiss()

    async def _run(self, task_id: str) -> None:
        try:
            found = await self._store.read(task_id)
            data = await self._store.payload(task_id)
        except (RedisError, OSError) as exc:
            # Nothing says that the task was begun, so the dispatcher will find it.
            _log.warning("task %s cannot be read: %s", task_id, exc)
            return
        if found is None or data is None:
            _log.warning("task %s is gone from Redis", task_id)
            return
        started, failure = time.time(), None
        try:
            await self._runner.run(task_id, self._with_limit(data))
        except TaskFailed as exc:
            failure = exc.failure
        finally:
            accepted = found.created_at.timestamp()
            log_end(_log, task_id, failure, accepted=accepted, started=started, ended=time.time())

    def _with_limit(self, data: dict[str, Any]) -> dict[str, Any]:
        """The task, with the limit for documents where it has none of its own."""
        limit = self._settings.eng_ray_document_timeout
        options = data.get("convert_options") or {}
        if limit is None or options.get("document_timeout") is not None:
            return data
        return {**data, "convert_options": {**options, "document_timeout": limit}}

    async def _on_update(self, update: jobkit_ray.TaskUpdate) -> None:
        if update.task_status is TaskStatus.FAILURE and update.task_id in self._ends:
            ended = await self._records.ended(update.task_id)
            if ended is not None:
                self._runner.stop(ended, update.task_id)


def limited(gate: Gate, limit_s: float | None) -> Gate:
    """``gate``, with a limit for the time that a task may take; None for no limit."""

    async def run(request: RunRequest) -> JobResult:
        try:
            return await asyncio.wait_for(gate(request), limit_s)
        except asyncio.TimeoutError:
            text = (
                f"The task was stopped: still running after {limit_s:g} s (eng_ray_task_timeout)."
            )
            limit = {"limit": "eng_ray_task_timeout"}
            raise TaskFailed(Failure("timeout", text, details=limit)) from None

    return run


async def _nothing(_: str) -> TaskView | None:
    """Nothing is watched here."""
    return None
