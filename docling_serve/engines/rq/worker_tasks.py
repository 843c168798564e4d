"""Run the task of one job at a time, on an event loop next to the thread that RQ works in.

A task ends with a result or a failure, and it is in Redis before anything else is notified.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from docling.datamodel.service.callbacks import CallbackSpec
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

from docling_serve.callbacks.delivery import CallbackDelivery
from docling_serve.engines.task_end import ended_event
from docling_serve.errors import DISK_FULL, SHUT_DOWN, Failure, TaskFailed, disk_is_full
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.flat_task import stage_task
from docling_serve.jobs.needs import may_need_models
from docling_serve.jobs.run_request import Gate, Listeners, RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.jobs.stages import Stage
from docling_serve.jobs.writing import finish_in_thread

_log = logging.getLogger(__name__)

T = TypeVar("T")

_PROGRESS_EVERY_S = 1.0
_INSIST_S = 60.0
_INSIST_PAUSE_S = 1.0


@dataclass(frozen=True)
class Liveness:
    """How a worker shows that it lives, in seconds: jobkit's 20 and 60 suit a process whose
    interpreter is busy converting; one that only waits can use shorter times."""

    beat_every_s: float = 20.0
    expires_s: int = 60


PROMPT = Liveness(beat_every_s=4.0, expires_s=15)


@dataclass(frozen=True)
class TaskSetup:
    """What all tasks of a worker have in common. ``waiting`` counts the jobs in its queues."""

    config: RQOrchestratorConfig
    folders: Path
    converter_config: dict[str, Any]
    presigned_config: dict[str, Any] | None
    liveness: Liveness
    waiting: Callable[[], int]


class TaskRunner:
    """Runs tasks through ``gate``. ``pulse`` is a connection that gives up within seconds."""

    def __init__(
        self,
        gate: Gate,
        connection: AsyncRedis,
        pulse: AsyncRedis,
        callbacks: CallbackDelivery,
        setup: TaskSetup,
    ) -> None:
        self._gate = gate
        self._redis = connection
        self._pulse = pulse
        self._callbacks = callbacks
        self._setup = setup
        self._running: asyncio.Task[Any] | None = None
        self._task_id = ""
        self._stopped_with: Failure | None = None

    async def run(self, task_id: str, task_data: dict[str, Any]) -> str:
        """Run the task to its end; returns the key of its result.

        Raises:
            TaskFailed: it has none; the failure is in Redis.
        """
        self._running = asyncio.current_task()
        self._task_id = task_id
        self._stopped_with = None
        beat = asyncio.create_task(self._beat(task_id))
        try:
            key = await self._run(task_id, task_data)
            self._call_back(task_id, task_data)
            return key
        except asyncio.CancelledError:
            failure = self._stopped_with or SHUT_DOWN
        except TaskFailed as exc:
            failure = exc.failure
        except Exception as exc:  # noqa: BLE001
            # A bug in the worker must end this task and nothing else.
            _log.exception("task %s: the worker failed to run it", task_id)
            failure = _fault(exc)
        finally:
            self._running = None
            beat.cancel()
        await _insist(lambda: self._fail(task_id, failure))
        self._call_back(task_id, task_data, failure)
        raise TaskFailed(failure)

    def stop(self, failure: Failure, task_id: str | None = None) -> None:
        """End the running task, if there is one and it is ``task_id``, with ``failure``."""
        if task_id not in (None, self._task_id):
            return  # that one has just finished
        if self._running is not None and self._stopped_with is None:
            self._stopped_with = failure
            self._running.cancel()

    async def _run(self, task_id: str, task_data: dict[str, Any]) -> str:
        await _insist(lambda: self._refuse_if_ended(task_id))
        begun = jobkit_rq.TaskUpdate(task_id=task_id, task_status=TaskStatus.STARTED)
        await _insist(lambda: self._publish(begun))
        folder = TaskFolder.create(self._setup.folders, task_id)
        try:
            spec = await finish_in_thread(stage_job, task_data, folder, self._setup)
            light = not await asyncio.to_thread(may_need_models, spec, folder)
            latest = _Latest()
            voice = asyncio.create_task(self._tell_progress(task_id, latest))
            callbacks = jobkit_rq.callbacks_of(task_data)
            listeners = Listeners(
                on_progress=latest.put,
                on_callback=partial(self.relay, task_id, callbacks),
                on_waiting=latest.wait,
            )
            try:
                result = await self._gate(
                    RunRequest(spec, folder, light, listeners, self.jobs_waiting)
                )
            finally:
                voice.cancel()
            packed = await asyncio.to_thread(folder.result_file(result).read_bytes)
            await _insist(lambda: self._refuse_if_ended(task_id))
            return await _insist(lambda: self._succeed(task_id, result, packed))
        finally:
            await asyncio.to_thread(folder.remove)

    async def _refuse_if_ended(self, task_id: str) -> None:
        """Raise if the task was ended elsewhere: cancelled, or this worker declared lost."""
        text = await self._redis.hget(jobkit_rq.detail_key(task_id), jobkit_rq.FAILURE)
        if text is not None:
            raise TaskFailed(jobkit_rq.load_failure(text))

    async def _beat(self, task_id: str) -> None:
        """Show that the task has a worker, and check whether it still needs one."""
        liveness = self._setup.liveness
        key = jobkit_rq.heartbeat_key(self._setup.config, task_id)
        while True:
            try:
                async with self._pulse.pipeline(transaction=False) as pipe:
                    pipe.set(key, "1", ex=liveness.expires_s)
                    pipe.hget(jobkit_rq.detail_key(task_id), jobkit_rq.FAILURE)
                    _, ended = await pipe.execute()
                if ended is not None:
                    self.stop(jobkit_rq.load_failure(ended))
            except (RedisError, OSError) as exc:
                _log.warning("task %s: no sign of life could be given: %s", task_id, exc)
            await asyncio.sleep(liveness.beat_every_s)

    async def _tell_progress(self, task_id: str, latest: _Latest) -> None:
        while True:
            progress = await latest.get()
            key = jobkit_rq.detail_key(task_id)
            with suppress(RedisError, OSError):  # it is for information only
                await self._redis.hset(key, jobkit_rq.PROGRESS, progress.model_dump_json())
                await self._redis.expire(key, jobkit_rq.detail_ttl_s(self._setup.config))
                update = jobkit_rq.TaskUpdate(
                    task_id=task_id, task_status=TaskStatus.STARTED, progress=progress
                )
                await self._publish(update)
            await asyncio.sleep(_PROGRESS_EVERY_S)

    async def _succeed(self, task_id: str, result: JobResult, packed: bytes) -> str:
        config = self._setup.config
        key = jobkit_rq.result_key(config, task_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, packed, ex=config.results_ttl)
            jobkit_rq.note_counts(pipe, config, task_id, result)
            await pipe.execute()
        await self._publish(
            jobkit_rq.TaskUpdate(task_id=task_id, task_status=TaskStatus.SUCCESS, result_key=key)
        )
        return key

    async def _fail(self, task_id: str, failure: Failure) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            jobkit_rq.note_failure(pipe, self._setup.config, task_id, failure)
            await pipe.execute()
        await self._publish(
            jobkit_rq.TaskUpdate(
                task_id=task_id,
                task_status=TaskStatus.FAILURE,
                error_message=failure.message,
                failure=failure,
            )
        )

    def _call_back(
        self, task_id: str, task_data: dict[str, Any], failure: Failure | None = None
    ) -> None:
        """Notify the task's callbacks of its end."""
        callbacks = jobkit_rq.callbacks_of(task_data)
        if callbacks:
            self.relay(task_id, callbacks, ended_event(failure))

    async def _publish(self, update: jobkit_rq.TaskUpdate) -> None:
        await self._redis.publish(self._setup.config.sub_channel, update.model_dump_json())

    def relay(self, task_id: str, callbacks: list[CallbackSpec], payload: dict[str, Any]) -> None:
        """Deliver an event to the task's callbacks."""
        self._callbacks.send(task_id, callbacks, payload)

    def jobs_waiting(self) -> int:
        """Jobs in the queues; 0 if Redis does not answer."""
        try:
            return self._setup.waiting()
        except (RedisError, OSError):
            return 0


class _Latest:
    """The latest progress of a task; earlier progress is dropped."""

    def __init__(self) -> None:
        self._progress: JobProgress | None = None
        self._news = asyncio.Event()

    def put(self, progress: JobProgress) -> None:
        self._progress = progress
        self._news.set()

    def wait(self, stage: Stage) -> None:
        """Note the stage in which the task waits, before a worker process has it."""
        if stage is not Stage.QUEUED:
            self.put(JobProgress(phase=stage.value))

    async def get(self) -> JobProgress:
        """The latest progress, once there is one that was not returned yet."""
        await self._news.wait()
        self._news.clear()
        assert self._progress is not None
        return self._progress


def stage_job(task_data: dict[str, Any], folder: TaskFolder, setup: TaskSetup) -> JobSpec:
    """Write the job of a task that a gateway queued into ``folder``, with its documents. Blocks.

    Raises:
        TaskFailed: a document is not valid base64.
        OSError: the disk is full.
    """
    return stage_task(
        task_data,
        folder,
        converter_config=setup.converter_config,
        presigned_config=setup.presigned_config,
        debug_error_details=setup.config.debug_error_details,
        output="task_result",
    )


def _fault(error: Exception) -> Failure:
    if disk_is_full(error):
        return DISK_FULL
    return Failure("internal", f"The worker failed to run the task ({type(error).__name__}).")


async def _insist(act: Callable[[], Awaitable[T]]) -> T:
    """Run it, retrying for a minute while Redis is down: work is not lost to a restart."""
    deadline = time.monotonic() + _INSIST_S
    while True:
        try:
            return await act()
        except (RedisError, OSError) as exc:
            if time.monotonic() > deadline:
                raise
            _log.warning("Redis does not answer: %s; trying again", exc)
            await asyncio.sleep(_INSIST_PAUSE_S)
