"""RQ's worker, which takes jobs from the queues and keeps their records; it runs none itself.

A process has one for each task that it runs at a time, each in a thread of its own.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from redis import Redis
from rq import Queue, SimpleWorker
from rq.command import parse_payload
from rq.exceptions import NoSuchJobError, StopRequested
from rq.job import Job
from rq.timeouts import BaseDeathPenalty
from rq.worker import WorkerStatus

from docling_serve.engines.redis.lines import DrainedQueue, Lines, Takes
from docling_serve.engines.redis.task_runner import GIVEN_AWAY
from docling_serve.errors import CANCELLED, Failure, TaskFailed
from docling_serve.internals import jobkit_rq

_log = logging.getLogger(__name__)

_ENDLESS_S = 30 * 24 * 3600
_LISTED_S = 24 * 3600
_HEARTBEAT_S = 30.0
#: Jobs of other programs are not announced, and an announcement can be lost.
_LOOK_EVERY_S = 1.0


class JobHost(Protocol):
    """The process that a :class:`JobTaker` works for."""

    @property
    def config(self) -> RQOrchestratorConfig:
        """jobkit's configuration."""
        ...

    @property
    def connection(self) -> Redis:
        """The connection to the queues."""
        ...

    @property
    def queue_names(self) -> list[str]:
        """The queues, in the order in which they are drained."""
        ...

    def run_task(self, job: Job, task_data: dict[str, Any]) -> str:
        """Run a task to its end; returns the key of its result. Raises ``TaskFailed``."""
        ...

    def stop_task(self, failure: Failure, task_id: str | None = None) -> None:
        """End the running task, if there is one and it is ``task_id``; None matches any. May be
        called in any thread."""
        ...

    def clear(self) -> None:
        """Free what loaded converters hold. May be called in any thread."""
        ...

    def after_job(self, task_id: str) -> None:
        """Called after RQ has recorded how the job ended."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether no further job is to be taken."""
        ...

    @property
    def arrivals(self) -> int:
        """How many jobs have arrived, as far as this process has noticed."""
        ...

    def wait_for_arrival(self, since: int, within_s: float) -> None:
        """Wait while ``arrivals`` is ``since``."""
        ...


class _NoPenalty(BaseDeathPenalty):
    """RQ ends a job that takes too long by a signal, which only a main thread can receive; the host
    keeps to the limit instead."""

    def setup_death_penalty(self) -> None:
        pass

    def cancel_death_penalty(self) -> None:
        pass


class _Job(Job):
    """A job that is run by its worker, and not by the function it names: so this process imports no
    converter, and a queue cannot make it call any other function."""

    work: Callable[[_Job], str | None]

    def _execute(self) -> str | None:
        return self.work(self)


class JobTaker(SimpleWorker):
    """RQ's worker; ``host`` runs the jobs. ``took_jobs`` says whether there were any."""

    death_penalty_class = _NoPenalty

    def __init__(self, host: JobHost, takes: Takes = Takes.ANY) -> None:
        self._host = host
        self._takes = takes
        self._given_away = False
        self.took_jobs = False
        super().__init__(
            host.queue_names,
            connection=host.connection,
            default_result_ttl=host.config.results_ttl,
            job_class=_Job,
            queue_class=DrainedQueue,
            log_job_description=False,
        )
        self._lines = Lines(host.connection, self.queues)

    def _install_signal_handlers(self) -> None:
        """Signals are the process's."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """RQ's call for the next job; None if there is none and ``timeout`` is None.

        Raises:
            StopRequested: the process is to stop.
        """
        del max_idle_time
        self.set_state(WorkerStatus.IDLE)
        beat_at = 0.0
        while not self._host.stopping:
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + _HEARTBEAT_S
                self.heartbeat()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
            arrivals = self._host.arrivals
            if (taken := self._take()) is not None:
                return taken
            if timeout is None:
                return None
            self._host.wait_for_arrival(arrivals, _LOOK_EVERY_S)
        raise StopRequested

    def _take(self) -> tuple[Job, Queue] | None:
        while (taken := self._lines.take(self._takes)) is not None:
            job_id, queue = taken
            try:
                return self.job_class.fetch(job_id, connection=self.connection), queue
            except NoSuchJobError:  # it was deleted after it had been queued
                self._lines.registered(job_id, queue)
        return None

    def perform_job(self, job: Job, queue: Queue) -> bool:
        self.took_jobs = True
        assert isinstance(job, _Job)
        job.work = self._work
        return bool(super().perform_job(job, queue))

    def execute_job(self, job: Job, queue: Queue) -> None:
        self.prepare_execution(job)
        if not self._lines.registered(job.id, queue):
            _log.warning("job %s: another worker has taken it meanwhile", job.id)
            self._let_go(job)
            return
        self.perform_job(job, queue)
        self.set_state(WorkerStatus.IDLE)
        self._host.after_job(job.id)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        del remove_from_intermediate_queue  # it has left that already
        super().prepare_job_execution(job, remove_from_intermediate_queue=False)

    def _work(self, job: Job) -> str | None:
        task_data = job.kwargs.get("task_data")
        if not isinstance(task_data, dict):
            _log.debug("job %s: clear converters", job.id)
            self._host.clear()
            return None
        try:
            return self._host.run_task(job, task_data)
        finally:
            # RQ saves a finished job again; drop its documents from Redis and from memory.
            job.kwargs = {**job.kwargs, "task_data": {**task_data, "sources": []}}

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log one line; RQ's own would pass the documents of the job to every log handler. A failed
        task has already been logged."""
        error = exc_info[1]
        self._given_away = isinstance(error, TaskFailed) and error.failure is GIVEN_AWAY
        level = logging.DEBUG if isinstance(error, TaskFailed) else logging.ERROR
        _log.log(level, "job %s failed: %s", job.id, error)

    def handle_job_failure(
        self, job: Job, queue: Queue, started_job_registry: Any = None, exc_string: str = ""
    ) -> None:
        """Called next. A job that another worker has is left alone."""
        if self._given_away or not self._has(job):
            self._given_away = False
            self._let_go(job)
        else:
            super().handle_job_failure(job, queue, started_job_registry, exc_string)

    def _has(self, job: Job) -> bool:
        """Whether this execution of the job is registered; a job that is put back loses it."""
        if self.execution is None:  # RQ failed to record the success, after it had let go
            return True
        started = job.started_job_registry.key
        return self.connection.zscore(started, self.execution.composite_key) is not None

    def _let_go(self, job: Job) -> None:
        with self.connection.pipeline() as pipe:
            self.cleanup_execution(job, pipe)
            pipe.execute()

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """RQ's call to stop a job, made in the thread that receives commands."""
        del sig
        task_id, self._stopped_job_id = self._stopped_job_id, None
        # Not RQ's "stopped", which other gateway implementations treat as "waiting".
        self._host.stop_task(CANCELLED, task_id)

    def handle_payload(self, message: dict[str, Any]) -> None:
        if parse_payload(message).get("command") == jobkit_rq.CLEAR_COMMAND:
            self._host.clear()
        else:
            super().handle_payload(message)  # type: ignore[no-untyped-call]

    def get_heartbeat_ttl(self, job: Job) -> int:
        """How long RQ considers a job running. A worker like this one never renews it, so a job
        without a limit needs a long time; lost workers are found by our own sign of life."""
        endless = job.timeout is not None and job.timeout < 0
        return _ENDLESS_S if endless else int(super().get_heartbeat_ttl(job))

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Keeps a lost worker from being listed for as long as its job was allowed to run."""
        seconds = min(timeout or self.worker_ttl + 60, _LISTED_S)
        super().heartbeat(seconds, pipeline=pipeline)

    def abandon(self) -> None:
        """End the thread that receives commands, after :meth:`work` has failed."""
        if self.pubsub_thread is not None:
            self.pubsub_thread.stop()
