"""A gateway's operations on RQ's jobs and workers. All of it blocks: use a thread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from docling_jobkit.datamodel.task import Task
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from docling_jobkit.orchestrators.serialization import dump_model_with_secrets
from redis import Redis
from rq import Queue, worker_registration
from rq.command import send_command
from rq.exceptions import DeserializationError, InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.results import Result
from rq.utils import as_text
from rq.worker import SimpleWorker

from docling_serve.engines.redis.lines import LineQueue, Lines, Place
from docling_serve.internals import jobkit_rq


class Jobs:
    """The jobs in ``filled``, the queue that gateways fill, and the workers of ``queues``.

    Every method raises ``redis.RedisError`` when Redis does not answer as it should.
    """

    def __init__(
        self,
        connection: Redis,
        filled: Queue,
        queues: Sequence[Queue],
        config: RQOrchestratorConfig,
    ) -> None:
        self._redis = connection
        self._filled = filled
        self._queues = queues
        self._config = config
        self.lines = Lines(connection, [filled, *(q for q in queues if q.name != filled.name)])

    def put(self, task: Task, place: Place) -> None:
        """Queue a task, with its documents and keys in the clear, where its turn is."""
        LineQueue(self._filled.name, self._redis, place).enqueue(
            jobkit_rq.JOB_FUNCTION,
            kwargs={"task_data": dump_model_with_secrets(task, serialize_as_any=True)},
            job_id=task.task_id,
            job_timeout=self._config.job_timeout,
            failure_ttl=self._config.failure_ttl,
            # RQ's own description would put sources and keys into its workers' logs.
            description=f"{task.task_type.value} task",
        )

    def task_data(self, task_id: str) -> dict[str, Any] | None:
        """What :meth:`put` queued, documents and keys included; None if there is no such task."""
        try:
            data = Job.fetch(task_id, connection=self._redis).kwargs.get("task_data")
        except (NoSuchJobError, DeserializationError):  # gone, or only RQ's final record is left
            return None
        return data if isinstance(data, dict) else None

    def stop(self, task_id: str) -> None:
        """Ask the worker that has a job to stop it, if there is one."""
        job = self._without_data(task_id)
        if job is not None and job.worker_name:
            send_command(self._redis, job.worker_name, "stop-job", job_id=task_id)

    def close(self, task_id: str, status: JobStatus) -> None:
        """Record how a job ended whose worker can't record it."""
        job = self._without_data(task_id)
        if job is None:
            return
        job.set_status(status)
        job.cleanup(self._config.failure_ttl, remove_from_queue=False)
        # RQ itself asks the job for its executions, whose record may have expired by now.
        started = job.started_job_registry.key
        members: list[Any] = list(self._redis.zrange(started, 0, -1))
        ours = [member for member in members if as_text(member).startswith(f"{task_id}:")]
        if ours:
            self._redis.zrem(started, *ours)

    def delete(self, task_id: str) -> None:
        """Remove a job, with its documents, from Redis."""
        job = self._without_data(task_id)
        if job is not None:
            Result.delete_all(job)
            # Another process has just deleted it, or its worker has just released it.
            with suppress(InvalidJobOperation, ValueError):
                job.delete()
            self._redis.delete(Job.key_for(task_id))

    def ask_to_clear(self) -> None:
        """Ask every worker to free what loaded converters hold."""
        for queue in self._queues:
            for key in worker_registration.get_keys(queue=queue):
                name = as_text(key).removeprefix(SimpleWorker.redis_worker_namespace_prefix)
                send_command(self._redis, name, jobkit_rq.CLEAR_COMMAND)
        # Other worker implementations use a job for this, which reaches one of them.
        self._filled.enqueue(jobkit_rq.CLEAR_FUNCTION, description="clear converters")

    def _without_data(self, task_id: str) -> Job | None:
        """A handle of a job; the usual way of fetching it also transfers its documents."""
        key = Job.key_for(task_id)
        origin, worker_name = self._redis.hmget(key, "origin", "worker_name")
        if origin is None:
            return None
        job = Job(task_id, connection=self._redis)
        job.origin = as_text(origin)
        job.worker_name = as_text(worker_name) if worker_name else None
        return job
