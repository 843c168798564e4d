"""Run tasks that are kept in Redis, on the event loop of a worker process.

A task ends with a result or a failure, and it is in Redis before anything else is notified. Where
and how an engine keeps it there is known to its :class:`TaskRecords`.
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
from typing import Any, Protocol, TypeVar

from docling.datamodel.service.callbacks import CallbackSpec
from redis import RedisError

from docling_serve.callbacks.delivery import CallbackDelivery
from docling_serve.engines.task_end import ended_event
from docling_serve.errors import DISK_FULL, SHUT_DOWN, Failure, TaskFailed, disk_is_full
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


GIVEN_AWAY = Failure(
    "internal",
    "The task was given to another worker, because this one seemed lost.",
    retryable=True,
    details={"reason": "given_away"},
)
"""Ends what a worker does for a task, and not the task: nothing is written or announced."""


@dataclass(frozen=True)
class Liveness:
    """How a worker shows that it lives, in seconds: jobkit's 20 and 60 suit a process whose
    interpreter is busy converting; one that only waits can use shorter times."""

    beat_every_s: float = 20.0
    expires_s: int = 60


PROMPT = Liveness(beat_every_s=4.0, expires_s=15)


@dataclass(frozen=True)
class TaskSetup:
    """What all tasks of a worker have in common. ``waiting`` counts the tasks that wait for one."""

    folders: Path
    converter_config: dict[str, Any]
    presigned_config: dict[str, Any] | None
    debug_error_details: bool
    liveness: Liveness
    waiting: Callable[[], int]


class TaskRecords(Protocol):
    """What a worker reads and writes of a task. Every call may raise ``redis.RedisError``."""

    async def ended(self, task_id: str) -> Failure | None:
        """The failure with which the task was ended elsewhere: it was cancelled, or this worker was
        declared lost; :data:`GIVEN_AWAY` if another worker has it now. None while it may run."""
        ...

    async def begin(self, task_id: str) -> None:
        """The task has started."""
        ...

    async def beat(self, task_id: str, expires_s: int) -> Failure | None:
        """Show that the task has a worker, for ``expires_s`` seconds; returns what :meth:`ended`
        returns. Gives up within seconds."""
        ...

    async def note_progress(self, task_id: str, progress: JobProgress) -> None:
        """Write and announce what the task has reached."""
        ...

    async def succeed(self, task_id: str, result: JobResult, packed: bytes) -> str:
        """Write and announce the result; returns its key. ``packed`` is msgpack of jobkit's
        ``DoclingTaskResult``."""
        ...

    async def fail(self, task_id: str, failure: Failure) -> bool:
        """Write and announce the failure; False if another worker has the task now."""
        ...

    def forget(self, task_id: str) -> None:
        """The task runs here no more."""
        ...


class TaskRunner:
    """Runs tasks through ``gate``, each to its end."""

    def __init__(
        self, gate: Gate, records: TaskRecords, callbacks: CallbackDelivery, setup: TaskSetup
    ) -> None:
        self._gate = gate
        self._records = records
        self._callbacks = callbacks
        self._setup = setup
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._stopped_with: dict[str, Failure] = {}

    @property
    def running(self) -> list[str]:
        """The tasks that run now."""
        return list(self._running)

    async def run(self, task_id: str, task_data: dict[str, Any]) -> str:
        """Run the task to its end; returns the key of its result.

        Raises:
            TaskFailed: it has none; the failure is in Redis, unless it is :data:`GIVEN_AWAY`.
        """
        current = asyncio.current_task()
        assert current is not None
        while (earlier := self._running.get(task_id)) is not None:
            # This worker seemed lost, the task was put back, and it has come here again.
            self.stop(GIVEN_AWAY, task_id)
            await asyncio.wait({earlier})
        self._running[task_id] = current
        try:
            return await self._run_to_end(task_id, task_data)
        finally:
            del self._running[task_id]
            self._stopped_with.pop(task_id, None)
            self._records.forget(task_id)

    async def _run_to_end(self, task_id: str, task_data: dict[str, Any]) -> str:
        beat = asyncio.create_task(self._beat(task_id))
        try:
            key = await self._run(task_id, task_data)
            self._call_back(task_id, task_data)
            return key
        except asyncio.CancelledError:
            failure = self._stopped_with.get(task_id, SHUT_DOWN)
        except TaskFailed as exc:
            failure = exc.failure
        except Exception as exc:  # noqa: BLE001
            # A bug in the worker must end this task and nothing else.
            _log.exception("task %s: the worker failed to run it", task_id)
            failure = _fault(exc)
        finally:
            beat.cancel()
        self._stopped_with[task_id] = failure  # so that stop() does not interrupt what follows
        if failure is not GIVEN_AWAY:
            if await _insist(lambda: self._records.fail(task_id, failure)):
                self._call_back(task_id, task_data, failure)
            else:
                failure = GIVEN_AWAY
        raise TaskFailed(failure)

    def stop(self, failure: Failure, task_id: str | None = None) -> None:
        """End the task with ``failure`` if it runs; None stands for every task that runs."""
        for running_id, running in list(self._running.items()):
            if task_id in (None, running_id) and running_id not in self._stopped_with:
                self._stopped_with[running_id] = failure
                running.cancel()

    async def _run(self, task_id: str, task_data: dict[str, Any]) -> str:
        await _insist(lambda: self._refuse_if_ended(task_id))
        await _insist(lambda: self._records.begin(task_id))
        folder = TaskFolder.create(self._setup.folders, task_id)
        try:
            spec = await finish_in_thread(stage_job, task_data, folder, self._setup)
            light = not await asyncio.to_thread(may_need_models, spec, folder)
            latest = _Latest()
            voice = asyncio.create_task(self._tell_progress(task_id, latest))
            listeners = Listeners(
                on_progress=latest.put,
                on_callback=partial(self.relay, task_id, callbacks_of(task_data)),
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
            return await _insist(lambda: self._records.succeed(task_id, result, packed))
        finally:
            await asyncio.to_thread(folder.remove)

    async def _refuse_if_ended(self, task_id: str) -> None:
        ended = await self._records.ended(task_id)
        if ended is not None:
            raise TaskFailed(ended)

    async def _beat(self, task_id: str) -> None:
        """Show that the task has a worker, and check whether it still needs one."""
        liveness = self._setup.liveness
        while True:
            try:
                ended = await self._records.beat(task_id, liveness.expires_s)
                if ended is not None:
                    self.stop(ended, task_id)
            except (RedisError, OSError) as exc:
                _log.warning("task %s: the heartbeat could not be sent: %s", task_id, exc)
            await asyncio.sleep(liveness.beat_every_s)

    async def _tell_progress(self, task_id: str, latest: _Latest) -> None:
        while True:
            progress = await latest.get()
            with suppress(RedisError, OSError):  # it is for information only
                await self._records.note_progress(task_id, progress)
            await asyncio.sleep(_PROGRESS_EVERY_S)

    def _call_back(
        self, task_id: str, task_data: dict[str, Any], failure: Failure | None = None
    ) -> None:
        """Notify the task's callbacks of its end."""
        callbacks = callbacks_of(task_data)
        if callbacks:
            self.relay(task_id, callbacks, ended_event(failure))

    def relay(self, task_id: str, callbacks: list[CallbackSpec], payload: dict[str, Any]) -> None:
        """Deliver an event to the task's callbacks."""
        self._callbacks.send(task_id, callbacks, payload)

    def jobs_waiting(self) -> int:
        """Tasks that wait; 0 if Redis does not answer."""
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
        debug_error_details=setup.debug_error_details,
        output="task_result",
    )


def callbacks_of(task_data: dict[str, Any]) -> list[CallbackSpec]:
    """The callbacks of a queued task."""
    return [CallbackSpec.model_validate(item) for item in task_data.get("callbacks") or []]


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
