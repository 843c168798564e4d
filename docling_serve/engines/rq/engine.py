"""The rq engine: tasks queued in Redis by any gateway, run by ``docling-serve rq-worker``.

Built on docling-jobkit's orchestrator, whose connections, names and formats it keeps. Unlike
jobkit's, it keeps nothing of a task in this process, waits for tasks without polling, listens to
the channel of updates again after an outage of Redis, and never blocks the event loop on Redis.
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
    TaskNotFoundError,
)
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestrator
from redis import RedisError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from rq import Queue
from rq.job import JobStatus

from docling_serve.engines.base import (
    DEFAULT_TENANT,
    Capacity,
    OnCallback,
    Reply,
    Submission,
    TaskView,
)
from docling_serve.engines.fingerprint import fingerprint
from docling_serve.engines.redis.fleet import Fleet
from docling_serve.engines.redis.jobkit_tasks import place_of, rendered, task_of
from docling_serve.engines.redis.keys import IdempotencyKeys
from docling_serve.engines.redis.line_view import LineView
from docling_serve.engines.redis.lines import Again, times_key
from docling_serve.engines.redis.task_runner import callbacks_of
from docling_serve.engines.redis.tasks import TasksInRedis, as_backpressure, failed_view
from docling_serve.engines.redis.updates import UpdateListener
from docling_serve.engines.rq.jobs import Jobs
from docling_serve.engines.rq.metrics import RqCollector
from docling_serve.engines.rq.reaper import Reaper, ReaperTimes
from docling_serve.engines.rq.store import JOB_GONE, StoredTask, TaskStore
from docling_serve.engines.task_end import ended_event, log_ended_view
from docling_serve.errors import CANCELLED, Failure
from docling_serve.internals import jobkit_rq
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

WORKER_LOST = Failure(
    "internal",
    "The rq-worker that ran the task was lost: its heartbeat stopped.",
    retryable=True,
    details={"reason": "worker_lost"},
)
_PING_WITHIN_S = 5.0


class RqEngine(TasksInRedis, RQOrchestrator):
    """Tasks in Redis. Creating it connects to nothing; see ``redis_reach``."""

    def __init__(
        self,
        settings: DoclingServeSettings,
        on_callback: OnCallback = lambda *_: None,
        reaper_times: ReaperTimes | None = None,
    ) -> None:
        super().__init__(jobkit_rq.orchestrator_config(settings))
        # A connection that Redis has closed meanwhile looks usable until its next use.
        self._async_redis_conn.set_retry(Retry(NoBackoff(), 1))
        self._single_use_results = settings.single_use_results
        self._on_callback = on_callback
        self._max_attempts = settings.eng_rq_max_attempts
        self.share(self._look)
        queues = [Queue(n, connection=self._redis_conn) for n in settings.eng_rq_queue_names]
        self.collector = RqCollector(settings.eng_rq_redis_url, settings.eng_rq_queue_names)
        self._jobs = Jobs(self._redis_conn, self._rq_queue, queues, self.config)
        queue = self._rq_queue.name
        self._fleet = Fleet(self._async_redis_conn, queue, times_key(queue))
        self._line = LineView(self._async_redis_conn, self._fleet)
        self._store = TaskStore(self._async_redis_conn, self._jobs, self._line, self.config)
        self._keys = IdempotencyKeys(self._async_redis_conn, self._exists)
        self.listener = UpdateListener(
            self._async_redis_conn,
            self.config.sub_channel,
            self._watches,
            jobkit_rq.TaskUpdate.model_validate_json,
            self._on_update,
        )
        self._reaper = Reaper(
            self._async_redis_conn,
            queues,
            self._jobs.lines,
            self.config,
            self._on_lost,
            reaper_times,
        )

    # ---- API --------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> TaskView:
        """Put the task, documents included, into the first queue.

        Raises:
            ShuttingDown: no task is accepted any more.
            KeyReused: its key was used before, with another request.
            RedisBackpressureError: Redis is unavailable now.
        """
        self.require_accepting()
        task = await asyncio.to_thread(task_of, submission, self.config.allow_external_plugins)
        key = submission.idempotency_key
        if key is None:
            await self._accept(task)
            return await self.view_of_queued(task, submission.tenant)
        print_ = await asyncio.to_thread(fingerprint, submission)
        with as_backpressure():  # outside the gate: it may wait for another request
            task_id = await self._keys.claim(submission.tenant, key, print_, task.task_id)
        if task_id != task.task_id:
            return await self.view(task_id, submission.tenant)
        try:
            await self._accept(task)
        except BaseException:
            with suppress(RedisError, OSError):
                await self._keys.failed(submission.tenant, key, task_id)
            raise
        with suppress(RedisError, OSError):  # it counts as created a little later
            await self._keys.created(submission.tenant, key, task_id)
        return await self.view_of_queued(task, submission.tenant)

    async def _accept(self, task: Task) -> None:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            # Once announced, the task must be found, so it is stored before it is queued.
            await self._store.add(task)
            try:
                await asyncio.to_thread(self._jobs.put, task, place_of(task))
            except BaseException:
                with suppress(RedisError, OSError):
                    await self._store.forget_metadata(task.task_id)
                raise
        _log.info("task %s: accepted, %d document(s)", task.task_id, len(task.sources))

    async def view(self, task_id: str, tenant: str = DEFAULT_TENANT) -> TaskView:
        return (await self._find(task_id, tenant)).view()

    async def reply(self, task_id: str, tenant: str = DEFAULT_TENANT) -> Reply | None:
        stored = await self._find(task_id, tenant)
        if stored.status is not TaskStatus.SUCCESS:
            return None
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            packed = await self._store.packed_result(task_id)
        if packed is None:
            return None
        return await asyncio.to_thread(
            lambda: rendered(jobkit_rq.unpacked(packed), stored.document_version)
        )

    async def cancel(self, task_id: str, tenant: str, failure: Failure) -> TaskView:
        view, _ = await self._end(await self._find(task_id, tenant), failure)
        return view

    async def delete(self, task_id: str, tenant: str) -> TaskView:
        return await self._delete(await self._find(task_id, tenant))

    async def on_result_fetched(self, task_id: str) -> None:
        if not self._single_use_results:
            return
        try:
            stored = await self._store.read(task_id)
            if stored is not None and stored.finished:
                await self._store.expire(stored, self.config.result_removal_delay)
        except (RedisError, OSError) as exc:
            _log.warning("task %s: its result stays until it expires: %s", task_id, exc)

    async def list_tasks(
        self, tenant: str, state: TaskStatus | None = None, limit: int = 100
    ) -> list[TaskView]:
        """Reads every task in Redis, so it is for interactive use, not for polling."""
        found: list[StoredTask] = []
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            async for task_id in self._store.all_ids():
                stored = await self._store.read(task_id)
                if stored is not None and stored.tenant == tenant:
                    found.append(stored)
        asked = [stored.view() for stored in found if state in (None, stored.status)]
        epoch = datetime.fromtimestamp(0, timezone.utc)
        asked.sort(key=lambda view: view.created_at or epoch, reverse=True)
        return asked[:limit]

    async def clear_results(self, older_than: float = 0.0, tenant: str | None = None) -> None:
        before = datetime.now(timezone.utc) - timedelta(seconds=older_than)
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            async for task_id in self._store.all_ids():
                stored = await self._store.read(task_id)
                if stored is None or not stored.finished or tenant not in (None, stored.tenant):
                    continue
                if stored.ended_at is None or stored.ended_at < before:
                    await self._store.delete(stored)

    async def capacity(self, tenant: str) -> Capacity | None:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            return await self._line.capacity(tenant, self._rq_queue.name)

    def describe_workers(self) -> dict[str, Any]:
        """The worker processes of all hosts that report themselves."""
        return self._fleet.describe()

    def stop_worker(self, number: int) -> bool:
        """Ask for the end of a worker process; False if there is none of this number."""
        return self._fleet.stop_worker(number)

    async def clear_converters(self) -> None:
        """Ask all workers to free what loaded converters hold."""
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            await asyncio.to_thread(self._jobs.ask_to_clear)

    async def check_connection(self) -> None:
        """Raises ``RuntimeError`` when Redis does not answer within seconds."""
        try:
            await asyncio.wait_for(self._async_redis_conn.ping(), _PING_WITHIN_S)
        except (RedisError, OSError, asyncio.TimeoutError) as exc:
            raise RuntimeError(f"No connection to Redis: {exc or 'no answer'}") from exc

    # ---- updates from workers ---------------------------------------------------------------

    async def _on_update(self, update: jobkit_rq.TaskUpdate) -> None:
        if update.task_status is TaskStatus.FAILURE and update.failure is None:
            # A worker of another implementation: its reason is only in this message.
            message = update.error_message or "Internal processing error."
            await self._store.fail(update.task_id, Failure("internal", message))

    async def _on_lost(self, task_id: str) -> None:
        """The worker of a task was lost: another one gets the task, or it ends, and RQ's job with
        it."""
        stored = await self._store.read(task_id)
        if stored is not None and not stored.finished and await self._try_again(stored):
            return
        if stored is None or not stored.finished:
            if await self._store.fail(task_id, WORKER_LOST):  # no other gateway was faster
                self._call_back(task_id, await self._task_data(task_id), WORKER_LOST)
            await self._publish_failure(task_id, WORKER_LOST)
        status = JobStatus.FAILED
        if stored is not None and stored.status is TaskStatus.SUCCESS:
            status = JobStatus.FINISHED  # it was lost after its work was done
        await asyncio.to_thread(self._jobs.close, task_id, status)
        if stored is None:  # the task was deleted: nothing of it must remain
            await asyncio.to_thread(self._jobs.delete, task_id)

    async def _try_again(self, stored: StoredTask) -> bool:
        """Put a task whose worker was lost back into its queue; False if it was tried too often."""
        task_id, detail = stored.task_id, jobkit_rq.detail_key(stored.task_id)
        if stored.queue is None:
            return False
        lines, most = self._jobs.lines, self._max_attempts
        again = await asyncio.to_thread(lines.try_again, task_id, stored.queue, detail, most)
        if again is Again.WAITS:
            _log.warning("task %s: it waits again", task_id)
            update = jobkit_rq.TaskUpdate(task_id=task_id, task_status=TaskStatus.PENDING)
            await self._async_redis_conn.publish(self.config.sub_channel, update.model_dump_json())
        return again is not Again.SPENT

    # ---- life cycle -------------------------------------------------------------------------

    async def process_queue(self) -> None:
        """Follow what workers do, for as long as the server runs."""
        await asyncio.gather(
            self.listener.run(), self._watches.keep_told(), self._reaper.run(), self._fleet.run()
        )

    async def close(self) -> None:
        """Close the connections."""
        self.drain()
        self._closing.set()
        await asyncio.to_thread(self.collector.close)
        await super().close()  # type: ignore[no-untyped-call]

    # ---- internals --------------------------------------------------------------------------

    async def _find(self, task_id: str, tenant: str) -> StoredTask:
        async with self.at_redis(self.config.redis_gate_status_poll_wait_timeout):
            stored = await self._store.read(task_id)
        if stored is None or stored.tenant != tenant:
            raise TaskNotFoundError
        return stored

    async def _exists(self, task_id: str) -> bool:
        stored = await self._store.read(task_id)
        # While its job is not written yet, a new task looks like one whose job is gone.
        return stored is not None and stored.failure is not JOB_GONE

    async def _look(self, task_id: str) -> TaskView | None:
        stored = await self._store.read(task_id)
        return stored.view() if stored else None

    async def _delete(self, stored: StoredTask) -> TaskView:
        view, with_worker = await self._end(stored, CANCELLED)
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            if with_worker:
                await self._store.mark_deleted(stored.task_id)
            else:
                await self._store.delete(stored)
        self._watches.is_stale(stored.task_id)
        return view

    async def _end(self, stored: StoredTask, failure: Failure) -> tuple[TaskView, bool]:
        """End a task that has not finished; also returns whether a worker has it."""
        if stored.finished:
            return stored.view(), False
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            waits = stored.status is TaskStatus.PENDING
            data = await self._task_data(stored.task_id) if waits else {}
            # This goes first: a worker checks it before it starts, and while it works.
            await self._store.fail(stored.task_id, failure)
            with_worker = not await self._store.withdraw(stored)
            if with_worker:
                await asyncio.to_thread(self._jobs.stop, stored.task_id)
            else:
                self._call_back(stored.task_id, data, failure)
            ended = await self._store.read(stored.task_id) or stored
            await self._store.close_metadata(ended)
            await self._publish_failure(stored.task_id, failure)
        view = failed_view(ended.view(), ended.failure or failure)
        if not with_worker:  # whose line it is otherwise
            log_ended_view(_log, view)
        return view, with_worker

    async def _task_data(self, task_id: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._jobs.task_data, task_id) or {}

    def _call_back(self, task_id: str, data: dict[str, Any], failure: Failure) -> None:
        """Notify the callbacks of a task that no worker ends."""
        callbacks = callbacks_of(data)
        if callbacks:
            self._on_callback(task_id, callbacks, ended_event(failure))

    async def _publish_failure(self, task_id: str, failure: Failure) -> None:
        update = jobkit_rq.TaskUpdate(
            task_id=task_id,
            task_status=TaskStatus.FAILURE,
            error_message=failure.message,
            failure=failure,
        )
        await self._async_redis_conn.publish(self.config.sub_channel, update.model_dump_json())

    # ---- the rest of jobkit's interface -----------------------------------------------------

    async def get_raw_task(self, task_id: str) -> Task:
        async with self.at_redis(self.config.redis_gate_status_poll_wait_timeout):
            stored = await self._store.read(task_id)
        if stored is None:
            raise TaskNotFoundError(task_id)
        return stored.task(self.config.allow_external_plugins)

    async def task_status(self, task_id: str, wait: float = 0.0) -> Task:
        task = await self.get_raw_task(task_id)
        await self.wait_finished(task_id, task.metadata.get("tenant_id", DEFAULT_TENANT), wait)
        return await self.get_raw_task(task_id)

    async def task_result(self, task_id: str) -> DoclingTaskResult | None:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            packed = await self._store.packed_result(task_id)
        return await asyncio.to_thread(jobkit_rq.unpacked, packed) if packed else None

    async def delete_task(self, task_id: str) -> None:
        """Forget a task of any tenant; a running one is cancelled first."""
        with suppress(TaskNotFoundError):
            task = await self.get_raw_task(task_id)
            await self.delete(task_id, task.metadata.get("tenant_id", DEFAULT_TENANT))

    async def queue_size(self) -> int:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            return int(await self._async_redis_conn.llen(self._rq_queue.key))

    async def get_queue_position(self, task_id: str) -> int | None:
        async with self.at_redis(self.config.redis_gate_wait_timeout):
            stored = await self._store.read(task_id)
        return stored.position if stored else None
