"""Finds the tasks whose worker was lost, and puts back or ends them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis
from rq import Queue

from docling_serve.engines.redis.lines import Lines
from docling_serve.internals.jobkit_rq import heartbeat_key

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReaperTimes:
    """How often to check, and for how long a sign of life must be missing, in seconds.

    A missing sign is no proof: after an outage of Redis workers need a moment to renew it.
    """

    look_every_s: float = 5.0
    missing_for_s: float = 10.0


class Reaper:
    """Checks the tasks that workers have, and reports those whose worker is gone.

    A job that was taken and not registered within ``missing_for_s`` is put back into its queue:
    registering takes milliseconds, so the worker died in between. A worker renews a key with an
    expiry while it has a task (jobkit's: 60 s). jobkit's own watchdog waits for 90 s from the start
    of a task instead, because it looks at the key once.
    """

    def __init__(
        self,
        connection: AsyncRedis,
        queues: Sequence[Queue],
        lines: Lines,
        config: RQOrchestratorConfig,
        on_lost: Callable[[str], Awaitable[None]],
        times: ReaperTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = connection
        self._queues = queues
        self._lines = lines
        self._config = config
        self._on_lost = on_lost
        self._times = times or ReaperTimes()
        self._clock = clock
        self._missing_since: dict[str, float] = {}
        self._taken_since: dict[str, float] = {}

    async def run(self) -> None:
        """Check periodically, for as long as this process runs."""
        while True:
            await asyncio.sleep(self._times.look_every_s)
            try:
                await self.look()
            except (RedisError, OSError) as exc:
                _log.warning("cannot look for lost workers: %s", exc)
                self._missing_since.clear()
                self._taken_since.clear()
            except Exception:  # noqa: BLE001 - without this loop no lost worker is found
                _log.exception("the search for lost workers failed and will be repeated")

    async def look(self) -> None:
        """Check once. Raises ``redis.RedisError`` if Redis is unavailable."""
        started = await asyncio.to_thread(self._started)
        missing = await self._without_sign_of_life(started)
        now = self._clock()
        since = {task_id: self._missing_since.get(task_id, now) for task_id in missing}
        self._missing_since = since
        for task_id, first in since.items():
            if now - first >= self._times.missing_for_s:
                _log.warning("task %s: its worker was lost", task_id)
                await self._end(task_id)
        await asyncio.to_thread(self._restore)

    def _restore(self) -> None:
        """Put back the jobs that were taken long ago and not registered since."""
        taken, now = self._lines.unregistered(), self._clock()
        self._taken_since = {job: self._taken_since.get(job, now) for job, _ in taken}
        for job, queue in taken:
            is_late = now - self._taken_since[job] >= self._times.missing_for_s
            if is_late and self._lines.restore(job, queue):
                _log.warning(
                    "task %s: its worker was lost before it began; it is back in the queue", job
                )

    async def _end(self, task_id: str) -> None:
        try:
            await self._on_lost(task_id)
        except (RedisError, OSError):
            raise
        except Exception:  # noqa: BLE001 - one task that cannot be ended must not block the rest
            _log.exception("task %s: it cannot be marked as failed", task_id)

    def _started(self) -> list[str]:
        # Listing the ids also lets RQ clean long overdue jobs out of its registry.
        return [
            task_id
            for queue in self._queues
            for task_id in queue.started_job_registry.get_job_ids()
        ]

    async def _without_sign_of_life(self, task_ids: list[str]) -> list[str]:
        if not task_ids:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for task_id in task_ids:
                pipe.exists(heartbeat_key(self._config, task_id))
            alive = await pipe.execute()
        return [task_id for task_id, there in zip(task_ids, alive, strict=True) if not there]
