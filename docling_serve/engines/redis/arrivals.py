"""Wakes the threads of this process that wait for jobs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

_log = logging.getLogger(__name__)

_LISTEN_S = 60.0
_BACKOFF_S = 1.0


class Arrivals:
    """Threads wait here until something may have arrived on one of ``channels``."""

    def __init__(self, connection: AsyncRedis, channels: Sequence[str]) -> None:
        self._redis = connection
        self._channels = channels
        self._arrived = threading.Condition()
        self._open = True
        #: How often something has arrived; see :meth:`wait`.
        self.count = 0

    async def run(self) -> None:
        """Listen for as long as this process runs. While Redis does not answer, no thread is
        woken, so waiting threads need a limit."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as exc:
                _log.debug("no notifications of new tasks from Redis: %s", exc)
                await asyncio.sleep(_BACKOFF_S)

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(*self._channels)
            while True:
                if await pubsub.get_message(timeout=_LISTEN_S) is not None:
                    self._wake()
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()

    def wait(self, since: int, within_s: float) -> None:
        """Block while ``count`` is ``since``, at most ``within_s`` seconds."""
        with self._arrived:
            if self._open and self.count == since:
                self._arrived.wait(within_s)

    def close(self) -> None:
        """Let nothing wait from now on. Called in a signal handler: it takes no lock."""
        self._open = False

    def _wake(self) -> None:
        with self._arrived:
            self.count += 1
            self._arrived.notify_all()
