"""A host with workers reports what it does, and obeys when one of its workers is to be stopped.

===========================  ==============================================================
``docling:hosts``            sorted set: the name of each host, by when it last reported
``docling:hosts:number``     counter: each start of a host gets a number of its own
``docling:host:<name>``      JSON of a :class:`HostReport`; expires soon after the host is gone
``docling:host:<name>:stop`` channel: the number of a worker process that is to be stopped
===========================  ==============================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

_log = logging.getLogger(__name__)

HOSTS = "docling:hosts"
_NUMBER = "docling:hosts:number"
_EVERY_S = 2.0
_EXPIRES_S = 15
_LISTEN_S = 60.0
_LEAVES_WITHIN_S = 5.0


class Slots(BaseModel):
    """How many tasks may run at the same time, and how many do. ``light_workers`` run only tasks
    that need no models; ``workers`` run any."""

    workers: int
    light_workers: int = 0
    running: int = 0
    running_light: int = 0


class HostReport(BaseModel):
    """A host, as it reports itself. ``number`` is unique among all starts of hosts; ``pool`` is the
    worker pool as plain data, None where threads convert."""

    host: str
    number: int
    hostname: str
    pid: int
    at: float
    queues: list[str]
    slots: Slots
    tasks: list[str]
    pool: dict[str, Any] | None = None


def host_key(name: str) -> str:
    """Where a host reports."""
    return f"docling:host:{name}"


def stop_channel(name: str) -> str:
    """Where a host listens."""
    return f"{host_key(name)}:stop"


class HostReporter:
    """Reports this process, which drains ``queues``, every two seconds. ``slots`` and ``tasks`` say
    what it does now; ``pool`` and ``stop_worker`` are the worker pool's, None where threads
    convert."""

    def __init__(
        self,
        connection: AsyncRedis,
        queues: list[str],
        slots: Callable[[], Slots],
        tasks: Callable[[], list[str]],
        pool: Callable[[], dict[str, Any]] | None,
        stop_worker: Callable[[int], bool] | None,
    ) -> None:
        self._redis = connection
        self._slots = slots
        self._tasks = tasks
        self._pool = pool
        self._stop_worker = stop_worker
        hostname = socket.gethostname()
        # Containers may share the name of their machine, and have the same process IDs.
        self.name = f"{hostname}-{uuid.uuid4().hex[:6]}"
        self._who: dict[str, Any] = {
            "host": self.name,
            "hostname": hostname,
            "pid": os.getpid(),
            "queues": queues,
        }
        self._number = 0

    async def run(self) -> None:
        """Report, and listen, for as long as this process runs."""
        await asyncio.gather(self._insist(self._report), self._insist(self._listen))

    async def leave(self) -> None:
        """The host ends: remove its report."""
        with suppress(RedisError, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._leave(), _LEAVES_WITHIN_S)

    async def _leave(self) -> None:
        await self._redis.delete(host_key(self.name))
        await self._redis.zrem(HOSTS, self.name)

    async def _insist(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except (RedisError, OSError) as exc:
                _log.debug("this host cannot be reported: %s", exc)
            except Exception:  # noqa: BLE001 - a fault in a report must not end the reports
                _log.exception("this host cannot be reported")
            await asyncio.sleep(_EVERY_S)

    async def _report(self) -> None:
        if not self._number:
            self._number = int(await self._redis.incr(_NUMBER))
        now = time.time()
        report = HostReport(
            **self._who,
            number=self._number,
            at=now,
            slots=self._slots(),
            tasks=self._tasks(),
            pool=self._pool() if self._pool is not None else None,
        )
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(host_key(self.name), report.model_dump_json(), ex=_EXPIRES_S)
            pipe.zadd(HOSTS, {self.name: now})
            await pipe.execute()

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(stop_channel(self.name))
            while True:
                message = await pubsub.get_message(
                    ignore_subscribe_messages=True, timeout=_LISTEN_S
                )
                if message is not None and self._stop_worker is not None:
                    self._stop_worker(int(message["data"]))
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()
