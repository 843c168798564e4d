"""RQ's worker, which takes jobs from the queues and keeps their records; it runs none itself."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from redis import Redis, RedisError
from rq import Queue, SimpleWorker
from rq.command import parse_payload
from rq.job import Job

from docling_serve.errors import CANCELLED, Failure, TaskFailed
from docling_serve.internals import jobkit_rq

_log = logging.getLogger(__name__)

_ENDLESS_S = 30 * 24 * 3600
_LISTED_S = 24 * 3600


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

    def begin_shutdown(self) -> None:
        """The process is asked to exit. Called in a signal handler."""
        ...


class _Job(Job):
    """A job that is run by its worker, and not by the function it names: so this process imports no
    converter, and a queue cannot make it call any other function."""

    work: Callable[[_Job], str | None]

    def _execute(self) -> str | None:
        return self.work(self)


class JobTaker(SimpleWorker):
    """RQ's worker; ``host`` runs the jobs. ``took_jobs`` says whether there were any."""

    def __init__(self, host: JobHost) -> None:
        self._host = host
        self.took_jobs = False
        super().__init__(
            host.queue_names,
            connection=host.connection,
            default_result_ttl=host.config.results_ttl,
            job_class=_Job,
            log_job_description=False,
        )

    def perform_job(self, job: Job, queue: Queue) -> bool:
        self.took_jobs = True
        assert isinstance(job, _Job)
        job.work = self._work
        return bool(super().perform_job(job, queue))

    def execute_job(self, job: Job, queue: Queue) -> None:
        super().execute_job(job, queue)
        self._host.after_job(job.id)

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
        level = logging.DEBUG if isinstance(exc_info[1], TaskFailed) else logging.ERROR
        _log.log(level, "job %s failed: %s", job.id, exc_info[1])

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

    def set_shutdown_requested_date(self) -> None:
        """For RQ's dashboards only; called in a signal handler, in the middle of a task."""
        with suppress(RedisError, OSError):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._host.begin_shutdown()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def abandon(self) -> None:
        """End the thread that receives commands, after :meth:`work` has failed."""
        if self.pubsub_thread is not None:
            self.pubsub_thread.stop()
