"""``docling-serve rq-worker``: take jobs from Redis queues, and run them through the gate.

An event loop runs in one thread, with the worker pool and everything about a task. For each task
that may run at a time there are two more: RQ takes jobs and keeps their records in one of them, and
listens for commands in the other. RQ's worker gives up when Redis disappears at the wrong moment,
so a new one is created until the process is asked to exit. The main thread only receives signals.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import redis.asyncio
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestrator, RQOrchestratorConfig
from redis import Redis, RedisError
from rq import Queue
from rq.exceptions import StopRequested
from rq.job import Job
from rq.timeouts import JobTimeoutException

from docling_serve.callbacks.delivery import CallbackDelivery, CallbackRules
from docling_serve.engines.redis.arrivals import Arrivals
from docling_serve.engines.redis.hosts import HostReporter, Slots
from docling_serve.engines.redis.jobkit_tasks import LIGHT
from docling_serve.engines.redis.lines import Takes, arrivals_channel
from docling_serve.engines.redis.task_runner import PROMPT, Liveness, TaskRunner, TaskSetup
from docling_serve.engines.rq.job_taker import JobTaker
from docling_serve.engines.rq.jobs import Jobs
from docling_serve.engines.rq.loop_thread import LoopThread
from docling_serve.engines.rq.task_records import RqTaskRecords
from docling_serve.engines.task_end import log_end
from docling_serve.errors import SHUT_DOWN, Failure, TaskFailed
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.run_request import Gate, Runner
from docling_serve.process.guardian import Guardian
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import converter_config, presigned_config
from docling_serve.storage import Scratch

_log = logging.getLogger(__name__)

_PULSE_LIMIT_S = 5.0
_STOP_WITHIN_S = 30.0
_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 15.0
_PATIENT_SIGNALS = 2
_SPARE_CONNECTIONS = 10


@dataclass(frozen=True)
class WorkerParts:
    """What the composition root passes in: the gate, the preparation, the task runner, which kinds
    of jobs may run at the same time, and what there is to know of the pool, if there is one."""

    gate: Gate
    isolated: bool
    prepare: Callable[[], Awaitable[None]]
    runner: Runner
    guardian: Guardian
    takes: Sequence[Takes] = (Takes.ANY,)
    liveness: Liveness | None = None
    describe_pool: Callable[[], dict[str, Any]] | None = None
    stop_worker: Callable[[int], bool] | None = None


class RqWorkerProcess:
    """This process, from start to exit."""

    def __init__(self, settings: DoclingServeSettings, parts: WorkerParts) -> None:
        self._settings = settings
        self._parts = parts
        self._config = _with_room(jobkit_rq.orchestrator_config(settings), len(parts.takes))
        self._stopping = threading.Event()
        self._loop = LoopThread()
        self._redis: Redis = RQOrchestrator.make_rq_queue(self._config)[0]
        self._queues = [Queue(n, connection=self._redis) for n in settings.eng_rq_queue_names]
        self._jobs = Jobs(self._redis, self._queues[0], self._queues, self._config)
        self._runner: TaskRunner | None = None
        self._arrivals: Arrivals | None = None
        self._reporter: HostReporter | None = None
        #: The tasks that run, and whether each is light. One that was put back may be here twice.
        self._running: list[tuple[str, bool]] = []
        self._signals = 0
        self._at_work = 0
        self._counting = threading.Lock()
        self._ended = threading.Event()

    def run(self) -> int:
        """Work until asked to exit; returns the exit code. Blocks the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_early_signal)
        self._loop.start()
        scratch = Scratch(self._settings.scratch_path, self._parts.guardian)
        callbacks = CallbackDelivery(CallbackRules.from_settings(self._settings))
        code = 0
        try:
            self._runner = self._make_runner(scratch, callbacks)
            self._listen()
            self._parts.runner.work_in(scratch.workers)
            self._loop.wait(self._parts.prepare())
            self._serve()
        except (SystemExit, StopRequested):
            _log.warning("rq-worker: stopped at once")
        except Exception:  # noqa: BLE001 - the last line before the exit, so that it is logged
            _log.exception("rq-worker: cannot continue")
            code = 1
        finally:
            self._close(callbacks, scratch)
        return code

    def _serve(self) -> None:
        """Take jobs until a signal has come and the tasks have ended."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self._at_work = len(self._parts.takes)
        for takes in self._parts.takes:
            threading.Thread(target=self._work, args=(takes,), daemon=True).start()
        self._ended.wait()

    def _work(self, takes: Takes) -> None:
        """Take jobs, one after the other; runs in a thread of its own."""
        try:
            self._work_on(takes)
        finally:
            with self._counting:
                self._at_work -= 1
                if not self._at_work:
                    self._ended.set()

    def _work_on(self, takes: Takes) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            worker = None
            try:
                worker = JobTaker(self, takes)
                worker.work(logging_level=None)
            except (RedisError, OSError) as exc:
                _log.warning("rq-worker: Redis does not answer: %s", exc)
            except Exception:  # noqa: BLE001 - the other tasks of this process continue
                _log.exception("rq-worker: a thread that takes jobs failed")
            if worker is not None:
                worker.abandon()
                backoff_s = _FIRST_BACKOFF_S if worker.took_jobs else backoff_s
            if not self._stopping.is_set():
                _log.warning("rq-worker: starting again in %g s", backoff_s)
                self._stopping.wait(backoff_s)
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    # ---- called by RQ's worker --------------------------------------------------------------

    @property
    def config(self) -> RQOrchestratorConfig:
        return self._config

    @property
    def connection(self) -> Redis:
        return self._redis

    @property
    def queue_names(self) -> list[str]:
        return self._settings.eng_rq_queue_names

    def run_task(self, job: Job, task_data: dict[str, Any]) -> str:
        """Run a task to its end; an exception during the wait stops the task first.

        Raises:
            TaskFailed: it has no result.
        """
        assert self._runner is not None
        started, failure = time.time(), None
        light = bool((task_data.get("metadata") or {}).get(LIGHT))
        self._running.append((job.id, light))
        running = self._loop.begin(self._runner.run(job.id, task_data))
        limit_s = job.timeout if job.timeout and job.timeout > 0 else None
        try:
            if running not in futures.wait([running], limit_s).done:
                self.stop_task(_too_long(limit_s), job.id)
                if running not in futures.wait([running], _STOP_WITHIN_S).done:
                    raise JobTimeoutException
            key = running.result()
            with suppress(RedisError, OSError):
                self._jobs.lines.learn(job.origin, light, time.time() - started)
            return key
        except TaskFailed as exc:
            failure = exc.failure
            raise
        except JobTimeoutException:
            failure = _too_long(limit_s)
            raise
        finally:
            self._running.remove((job.id, light))
            accepted = job.created_at.timestamp()
            log_end(_log, job.id, failure, accepted=accepted, started=started, ended=time.time())

    def stop_task(self, failure: Failure, task_id: str | None = None) -> None:
        """End a task that runs here; None for all of them. May be called in any thread."""
        if self._runner is not None:
            self._loop.call(self._runner.stop, failure, task_id)

    def clear(self) -> None:
        """Free what loaded converters hold."""
        self._loop.begin(self._parts.runner.clear()).add_done_callback(_tell_why_not_cleared)

    def after_job(self, task_id: str) -> None:
        """Remove records of a fetched or deleted task that RQ's final writes have restored."""
        detail = jobkit_rq.detail_key(task_id)
        fetched, deleted = self._redis.hmget(detail, jobkit_rq.FETCHED, jobkit_rq.DELETED)
        if fetched or deleted:
            self._jobs.delete(task_id)
        if deleted:
            self._redis.delete(detail, jobkit_rq.result_key(self._config, task_id))

    @property
    def stopping(self) -> bool:
        """Whether no further job is to be taken."""
        return self._stopping.is_set()

    @property
    def arrivals(self) -> int:
        """How many jobs have arrived, as far as this process has noticed."""
        return self._arrivals.count if self._arrivals is not None else 0

    def wait_for_arrival(self, since: int, within_s: float) -> None:
        """Wait while ``arrivals`` is ``since``."""
        if self._arrivals is not None:
            self._arrivals.wait(since, within_s)

    # ---- internals --------------------------------------------------------------------------

    def _listen(self) -> None:
        channels = [arrivals_channel(queue.name) for queue in self._queues]
        url = self._config.redis_url
        self._arrivals = Arrivals(redis.asyncio.Redis.from_url(url), channels)
        self._loop.begin(self._arrivals.run())
        self._reporter = HostReporter(
            redis.asyncio.Redis.from_url(url),
            self.queue_names,
            self._slots,
            lambda: [task_id for task_id, _ in self._running],
            self._parts.describe_pool,
            self._parts.stop_worker,
        )
        self._loop.begin(self._reporter.run())

    def _slots(self) -> Slots:
        light_workers = sum(takes is Takes.LIGHT for takes in self._parts.takes)
        light = sum(light for _, light in self._running)
        return Slots(
            workers=len(self._parts.takes) - light_workers,
            light_workers=light_workers,
            running=len(self._running) - light,
            running_light=light,
        )

    def _make_runner(self, scratch: Scratch, callbacks: CallbackDelivery) -> TaskRunner:
        options: dict[str, Any] = {
            "socket_timeout": self._config.redis_socket_timeout,
            "socket_connect_timeout": self._config.redis_socket_connect_timeout,
            "health_check_interval": self._config.redis_health_check_interval,
        }
        limits = {"socket_timeout": _PULSE_LIMIT_S, "socket_connect_timeout": _PULSE_LIMIT_S}
        url = self._config.redis_url
        default = PROMPT if self._parts.isolated else Liveness()
        records = RqTaskRecords(
            redis.asyncio.Redis.from_url(url, **options),
            redis.asyncio.Redis.from_url(url, **{**options, **limits}),
            self._config,
        )
        return TaskRunner(
            self._parts.gate,
            records,
            callbacks,
            TaskSetup(
                folders=scratch.tasks,
                converter_config=converter_config(self._settings),
                presigned_config=presigned_config(self._settings),
                debug_error_details=self._config.debug_error_details,
                liveness=self._parts.liveness or default,
                waiting=lambda: sum(queue.count for queue in self._queues),
            ),
        )

    def _close(self, callbacks: CallbackDelivery, scratch: Scratch) -> None:
        async def close() -> None:
            if self._reporter is not None:
                await self._reporter.leave()
            await self._parts.runner.close()
            await callbacks.close(within_s=self._settings.shutdown_grace)

        try:
            self._loop.wait(close())
        except (SystemExit, StopRequested):
            _log.warning("rq-worker: stopping without waiting for running tasks")
        finally:
            self._parts.runner.kill()
            self._loop.stop()
            self._redis.close()
            scratch.release()
            self._parts.guardian.dismiss()

    def _on_early_signal(self, number: int, frame: FrameType | None) -> None:
        """Before jobs are taken."""
        del number, frame
        self._signals += 1
        self._stopping.set()
        raise StopRequested

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """At the first one take no more jobs; those that run have ``shutdown_grace`` seconds. At
        the second end them at once, at the third do not wait even for that."""
        del number, frame
        self._signals += 1
        self._stopping.set()
        if self._arrivals is not None:
            self._arrivals.close()
        if self._signals > _PATIENT_SIGNALS:
            raise SystemExit
        if self._runner is not None:
            grace_s = self._settings.shutdown_grace if self._signals == 1 else 0.0
            self._loop.call(self._loop.later, grace_s, self._runner.stop, SHUT_DOWN)
            # A thread that waits for a Redis which does not answer must not keep the process.
            self._loop.call(self._loop.later, grace_s + _STOP_WITHIN_S, self._ended.set)


def _with_room(config: RQOrchestratorConfig, workers: int) -> RQOrchestratorConfig:
    """Each RQ worker holds a connection to listen for commands, and needs another one to work."""
    needed = 2 * workers + _SPARE_CONNECTIONS
    most = max(config.redis_max_connections, needed)
    return config.model_copy(update={"redis_max_connections": most})


def _tell_why_not_cleared(cleared: Future[None]) -> None:
    if not cleared.cancelled() and (error := cleared.exception()) is not None:
        _log.error("converters could not be cleared", exc_info=error)


def _too_long(limit_s: float | None) -> Failure:
    text = f"The task was stopped: still running after {limit_s} s (eng_rq_job_timeout)."
    return Failure("timeout", text, details={"limit": "eng_rq_job_timeout"})
