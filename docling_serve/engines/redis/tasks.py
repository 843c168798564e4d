"""The common part of engines whose tasks live in Redis: tasks outlive this process, and waiters are
notified through a channel."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from docling.datamodel.service.callbacks import ProgressCallbackRequest
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
    TaskNotFoundError,
)
from redis import RedisError

from docling_serve.engines.base import DEFAULT_TENANT, Capacity, TaskView, Watch
from docling_serve.engines.redis.updates import Look, Watches
from docling_serve.engines.takes_submissions import TakesSubmissions
from docling_serve.errors import DELETED, Failure, ShuttingDown
from docling_serve.internals.jobkit_redis import RedisCallerGate

_log = logging.getLogger(__name__)


class TasksInRedis(TakesSubmissions):
    """A mixin for one of jobkit's orchestrators, whose gate to Redis it uses.

    Nothing of a task is kept in this process, so every gateway reports the same state.
    """

    _redis_gate: RedisCallerGate

    def share(self, look: Look) -> None:
        """Initialize the mixin; ``look`` reads a task for those who watch it."""
        self._accepting = True
        self._closing = asyncio.Event()
        self._watches = Watches(look, lambda view: failed_view(view, DELETED))

    @abstractmethod
    async def view(self, task_id: str, tenant: str = DEFAULT_TENANT) -> TaskView:
        """The task as it is now."""

    async def view_of_queued(self, task: Task, tenant: str) -> TaskView:
        """A newly queued task: as Redis has it, or as it must be if Redis is unavailable. An error
        would make the client send it again."""
        with suppress(RedisBackpressureError, TaskNotFoundError):
            return await self.view(task.task_id, tenant)
        return TaskView(
            task.task_id, task.task_type, TaskStatus.PENDING, num_docs=len(task.sources)
        )

    async def capacity(self, tenant: str) -> Capacity | None:
        """None: the number and speed of the workers are not known here."""
        del tenant
        return None

    # ---- waiting ----------------------------------------------------------------------------

    async def wait_finished(self, task_id: str, tenant: str, wait_s: float) -> TaskView:
        """The task once it has finished, or as it is after ``wait_s`` seconds."""
        if wait_s <= 0:
            return await self.view(task_id, tenant)
        async with self.watch(task_id, tenant) as watch:
            end = asyncio.ensure_future(_last_state(watch))
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                await asyncio.wait(
                    {end, closing}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                if closing.done() and not end.done():
                    raise ShuttingDown("the server is shutting down; the task continues")
                return watch.latest
            finally:
                end.cancel()
                closing.cancel()

    @asynccontextmanager
    async def watch(self, task_id: str, tenant: str = DEFAULT_TENANT) -> AsyncIterator[Watch]:
        """The task as it is now, then every state it comes to."""
        async with self._watches.watch(task_id, lambda: self.view(task_id, tenant)) as watch:
            yield watch

    # ---- life cycle -------------------------------------------------------------------------

    async def recover(self) -> None:
        """Nothing to do: Redis remembers."""

    def drain(self) -> None:
        """Accept nothing more. Tasks do not belong to this process: they continue."""
        self._accepting = False

    def cancel_running(self) -> None:
        """Release all who wait here; the tasks continue."""
        self._closing.set()

    async def finish_running(self, within_s: float) -> None:
        """Does nothing: no task runs in this process."""

    def require_accepting(self) -> None:
        """Raises ``ShuttingDown`` when no task is accepted any more."""
        if not self._accepting:
            raise ShuttingDown("the server is shutting down")

    # ---- internals --------------------------------------------------------------------------

    @asynccontextmanager
    async def at_redis(self, wait_s: float) -> AsyncIterator[None]:
        """A slot among the requests that may query Redis at once.

        Raises:
            RedisBackpressureError: no slot is free, or Redis does not answer.
        """
        async with self._redis_gate.acquire(wait_s):
            with as_backpressure():
                yield

    # ---- the rest of jobkit's interface -----------------------------------------------------

    async def receive_task_progress(self, request: ProgressCallbackRequest) -> None:
        """Does nothing: workers report progress through Redis."""
        await self.get_raw_task(request.task_id)


def failed_view(view: TaskView, failure: Failure) -> TaskView:
    """The task after it has ended with ``failure``."""
    return replace(view, status=TaskStatus.FAILURE, position=None, failure=failure)


@contextmanager
def as_backpressure() -> Iterator[None]:
    """To a request, a Redis that does not answer counts as busy: the client may retry."""
    try:
        yield
    except (RedisError, ConnectionError, TimeoutError) as exc:
        _log.warning("Redis does not answer: %s", exc)
        raise RedisBackpressureError("Redis does not answer; please retry shortly.") from exc


async def _last_state(watch: Watch) -> None:
    async for _ in watch:
        pass
