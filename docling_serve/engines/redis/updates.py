"""Updates of tasks from Redis, for those who wait in this process.

A message only says that there is something new to read, so a lost one does little harm: after every
(re)connection, and periodically, everything is read again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

from docling_jobkit.datamodel.task_meta import TaskStatus
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

from docling_serve.engines.base import TaskView, Watch

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
_READ_ALL_EVERY_S = 30.0


class Update(Protocol):
    """A message about a task, in any format."""

    @property
    def task_id(self) -> str: ...

    @property
    def progress(self) -> object | None:
        """None in a message about another state of the task."""
        ...


UpdateT = TypeVar("UpdateT", bound=Update)

Look = Callable[[str], Awaitable["TaskView | None"]]
"""Reads a task; None if it no longer exists. May raise ``RedisError``."""


class Watches:
    """All watches of this process; each gets every new state that ``look`` finds.

    ``gone`` derives the final state of a task that has vanished from its last known one.
    """

    def __init__(self, look: Look, gone: Callable[[TaskView], TaskView]) -> None:
        self._look = look
        self._gone = gone
        self._watches: dict[str, set[Watch]] = {}
        self._stale: set[str] = set()
        self._something_stale = asyncio.Event()

    @asynccontextmanager
    async def watch(
        self, task_id: str, read: Callable[[], Awaitable[TaskView]]
    ) -> AsyncIterator[Watch]:
        """Watch a task; ``read`` is called once, and what it raises is raised here."""
        watch = Watch(await read())
        watches = self._watches.setdefault(task_id, set())
        watches.add(watch)
        # Changes between the reading and now would otherwise be missed.
        self.is_stale(task_id)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches and self._watches.get(task_id) is watches:
                del self._watches[task_id]

    def is_stale(self, task_id: str) -> None:
        """Mark a task to be read again."""
        if task_id in self._watches:
            self._stale.add(task_id)
            self._something_stale.set()

    def all_stale(self) -> None:
        """Mark all tasks to be read again."""
        for task_id in self._watches:
            self.is_stale(task_id)

    def moved_up(self) -> None:
        """A task has left the queue, so those that wait behind it have moved up."""
        for task_id, watches in self._watches.items():
            if any(watch.latest.status is TaskStatus.PENDING for watch in watches):
                self.is_stale(task_id)

    async def keep_told(self) -> None:
        """Read stale tasks and push them to their watches, for as long as this process runs."""
        while True:
            await self._something_stale.wait()
            self._something_stale.clear()
            stale, self._stale = self._stale, set()
            for task_id in stale:
                try:
                    await self._tell(task_id)
                except (RedisError, OSError) as exc:
                    _log.warning("task %s cannot be read: %s; trying again", task_id, exc)
                    await asyncio.sleep(_FIRST_BACKOFF_S)
                    self.is_stale(task_id)
                except Exception:  # noqa: BLE001 - one unreadable task is no reason to stop
                    _log.exception("task %s: its data in Redis cannot be read", task_id)

    async def _tell(self, task_id: str) -> None:
        found = await self._look(task_id)
        for watch in self._watches.get(task_id, ()):
            if watch.latest.finished:
                continue
            state = found or self._gone(watch.latest)
            if state != watch.latest:
                watch.tell(state)


class UpdateListener(Generic[UpdateT]):
    """Listens to a channel of ``read``'s messages, and reconnects after Redis was unavailable.

    ``read`` raises ``ValueError`` for anything that is not such a message.
    """

    def __init__(
        self,
        connection: AsyncRedis,
        channel: str,
        watches: Watches,
        read: Callable[[bytes], UpdateT],
        on_update: Callable[[UpdateT], Awaitable[None]],
    ) -> None:
        self._redis = connection
        self._channel = channel
        self._watches = watches
        self._read = read
        self._on_update = on_update
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Listen for as long as this process runs."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as exc:
                if self.listening.is_set():
                    backoff_s = _FIRST_BACKOFF_S
                self.listening.clear()
                _log.warning(
                    "lost the connection to the channel of updates: %s; reconnecting in %g s",
                    exc,
                    backoff_s,
                )
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            read_all_at = 0.0
            while True:
                now = time.monotonic()
                if now >= read_all_at:
                    read_all_at = now + _READ_ALL_EVERY_S
                    self._watches.all_stale()
                message = await pubsub.get_message(timeout=read_all_at - now)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    # After a short loss the client resubscribes by itself.
                    self.listening.set()
                    self._watches.all_stale()
                elif message["type"] == "message":
                    await self._heard(message["data"])
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()

    async def _heard(self, data: bytes) -> None:
        try:
            update = self._read(data)
        except ValueError:
            _log.warning("a message on %s was not an update: %r", self._channel, data[:200])
            return
        try:
            await self._on_update(update)
        except (RedisError, OSError):
            raise
        except Exception:  # noqa: BLE001 - no published message may end the listening
            _log.exception("task %s: an update could not be applied", update.task_id)
        self._watches.is_stale(update.task_id)
        if update.progress is None:
            self._watches.moved_up()
