"""What an rq-worker reads and writes of its task in Redis."""

from __future__ import annotations

from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from redis.asyncio import Redis as AsyncRedis

from docling_serve.engines.redis.task_runner import GIVEN_AWAY
from docling_serve.errors import Failure
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.spec import JobProgress, JobResult

_ENDS = (jobkit_rq.FAILURE, jobkit_rq.LOSSES)


class RqTaskRecords:
    """See :class:`docling_serve.engines.redis.task_runner.TaskRecords`. ``pulse`` is a connection
    that gives up within seconds."""

    def __init__(
        self, connection: AsyncRedis, pulse: AsyncRedis, config: RQOrchestratorConfig
    ) -> None:
        self._redis = connection
        self._pulse = pulse
        self._config = config
        #: What the losses of each task that runs here were when it began.
        self._losses: dict[str, bytes | None] = {}

    async def ended(self, task_id: str) -> Failure | None:
        """The failure with which the task was ended elsewhere."""
        key = jobkit_rq.detail_key(task_id)
        return self._why_ended(task_id, *await self._redis.hmget(key, *_ENDS))

    def _why_ended(
        self, task_id: str, failure: bytes | None, losses: bytes | None
    ) -> Failure | None:
        if failure is not None:
            return jobkit_rq.load_failure(failure)
        return GIVEN_AWAY if self._given_away(task_id, losses) else None

    def _given_away(self, task_id: str, losses: bytes | None) -> bool:
        return self._losses.get(task_id, losses) != losses

    async def begin(self, task_id: str) -> None:
        """The task has started."""
        key = jobkit_rq.detail_key(task_id)
        self._losses[task_id] = await self._redis.hget(key, jobkit_rq.LOSSES)
        await self._publish(jobkit_rq.TaskUpdate(task_id=task_id, task_status=TaskStatus.STARTED))

    async def beat(self, task_id: str, expires_s: int) -> Failure | None:
        """Show that the task has a worker; returns what :meth:`ended` returns."""
        async with self._pulse.pipeline(transaction=False) as pipe:
            pipe.set(jobkit_rq.heartbeat_key(self._config, task_id), "1", ex=expires_s)
            pipe.hmget(jobkit_rq.detail_key(task_id), *_ENDS)
            _, ends = await pipe.execute()
        return self._why_ended(task_id, *ends)

    def forget(self, task_id: str) -> None:
        """The task runs here no more."""
        self._losses.pop(task_id, None)

    async def note_progress(self, task_id: str, progress: JobProgress) -> None:
        """Write and announce what the task has reached."""
        key = jobkit_rq.detail_key(task_id)
        await self._redis.hset(key, jobkit_rq.PROGRESS, progress.model_dump_json())
        await self._redis.expire(key, jobkit_rq.detail_ttl_s(self._config))
        await self._publish(
            jobkit_rq.TaskUpdate(task_id=task_id, task_status=TaskStatus.STARTED, progress=progress)
        )

    async def succeed(self, task_id: str, result: JobResult, packed: bytes) -> str:
        """Write and announce the result; returns its key."""
        key = jobkit_rq.result_key(self._config, task_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, packed, ex=self._config.results_ttl)
            jobkit_rq.note_counts(pipe, self._config, task_id, result)
            await pipe.execute()
        await self._publish(
            jobkit_rq.TaskUpdate(task_id=task_id, task_status=TaskStatus.SUCCESS, result_key=key)
        )
        return key

    async def fail(self, task_id: str, failure: Failure) -> bool:
        """Write and announce the failure; False if another worker has the task now."""
        key = jobkit_rq.detail_key(task_id)
        if self._given_away(task_id, await self._redis.hget(key, jobkit_rq.LOSSES)):
            return False
        async with self._redis.pipeline(transaction=True) as pipe:
            jobkit_rq.note_failure(pipe, self._config, task_id, failure)
            await pipe.execute()
        await self._publish(
            jobkit_rq.TaskUpdate(
                task_id=task_id,
                task_status=TaskStatus.FAILURE,
                error_message=failure.message,
                failure=failure,
            )
        )
        return True

    async def _publish(self, update: jobkit_rq.TaskUpdate) -> None:
        await self._redis.publish(self._config.sub_channel, update.model_dump_json())
