"""All hosts, as a gateway sees them: their workers, and how long a task waits for one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

from docling_serve.engines.base import LineCapacity
from docling_serve.engines.redis.hosts import HOSTS, HostReport, host_key, stop_channel

_log = logging.getLogger(__name__)

_EVERY_S = 2.0
#: Workers of one host have numbers below this; together with the host's they are unique.
_NUMBERS = 100_000
#: Assumed until a first task has finished.
_UNKNOWN_S = 5.0


@dataclass(frozen=True)
class Strength:
    """The workers of a line, and how many seconds its tasks take."""

    workers: int
    running: int
    seconds: float

    @property
    def idle(self) -> int:
        """Workers that have no task."""
        return max(0, self.workers - self.running)

    def wait_s(self, ahead: int) -> float:
        """How long ``ahead`` tasks take."""
        return round(ahead * self.seconds / max(1, self.workers), 1)

    def capacity(self, queued: int, before: int) -> LineCapacity:
        """The line with ``queued`` tasks, ``before`` of them ahead of the next one that comes."""
        ahead = max(0, before + 1 - self.idle)
        return LineCapacity(queued, self.running, self.workers, self.wait_s(ahead))


class Fleet:
    """The hosts that drain ``queue`` and report themselves, as of two seconds ago. ``times_key`` is
    a hash with the average seconds of tasks, ``heavy`` and ``light``."""

    def __init__(self, connection: AsyncRedis, queue: str, times_key: str) -> None:
        self._queue = queue
        self._redis = connection
        self._times_key = times_key
        self._times: dict[str, float] = {}
        self.hosts: list[HostReport] = []
        self._commands: set[asyncio.Future[Any]] = set()

    async def run(self) -> None:
        """Read the reports for as long as this process runs."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError) as exc:
                _log.debug("the hosts cannot be read: %s", exc)
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Read the reports now. Raises ``redis.RedisError``."""
        names = [name.decode() for name in await self._redis.zrange(HOSTS, 0, -1)]
        texts = await self._redis.mget([host_key(name) for name in names]) if names else []
        hosts, gone = [], []
        for name, text in zip(names, texts, strict=True):
            if text is None:
                gone.append(name)
                continue
            try:
                hosts.append(HostReport.model_validate_json(text))
            except ValidationError as exc:  # another version
                _log.debug("host %s reports something else: %s", name, exc)
        if gone:
            await self._redis.zrem(HOSTS, *gone)
        times = await self._redis.hgetall(self._times_key)
        self._times = {kind.decode(): float(seconds) for kind, seconds in times.items()}
        self.hosts = [host for host in hosts if self._queue in host.queues]

    @property
    def has_light_workers(self) -> bool:
        """Whether tasks that need no models have a line of their own."""
        return any(host.slots.light_workers for host in self.hosts)

    def strength(self, *, light: bool) -> Strength:
        """The workers of a line. Light tasks run on any worker."""
        slots = [host.slots for host in self.hosts]
        workers = sum(s.workers for s in slots)
        heavy, running_light = sum(s.running for s in slots), sum(s.running_light for s in slots)
        running = heavy if self.has_light_workers else heavy + running_light
        if not light or not self.has_light_workers:
            return Strength(workers, running, self._times.get("heavy", _UNKNOWN_S))
        workers += sum(s.light_workers for s in slots)
        return Strength(workers, running_light, self._times.get("light", _UNKNOWN_S))

    def describe(self) -> dict[str, Any]:
        """The hosts, and the worker processes of all of them in one list, as a single pool
        describes its own; each has the name of its ``host``, and a ``number`` that is unique."""
        workers = [w for host in self.hosts for w in _workers(host, "workers")]
        states: Counter[str] = Counter()
        for host in self.hosts:
            states.update((host.pool or {}).get("by_state", {}))
        return {
            "workers": workers,
            "ended": [w for host in self.hosts for w in _workers(host, "ended")],
            "template": None,
            "waiting": sum((host.pool or {}).get("waiting", 0) for host in self.hosts),
            "waiting_light": sum((host.pool or {}).get("waiting_light", 0) for host in self.hosts),
            "by_state": dict(states),
            "hosts": [
                {
                    **host.model_dump(exclude={"pool"}),
                    **{k: (host.pool or {}).get(k) for k in ("template", "metrics", "admission")},
                }
                for host in self.hosts
            ],
        }

    def stop_worker(self, number: int) -> bool:
        """Ask the host of a worker process to stop it; False if there is no such worker."""
        for host in self.hosts:
            if any(worker["number"] == number for worker in _workers(host, "workers")):
                sent = self._redis.publish(stop_channel(host.host), number % _NUMBERS)
                command = asyncio.ensure_future(sent)
                self._commands.add(command)
                command.add_done_callback(self._commands.discard)
                return True
        return False


def _workers(host: HostReport, which: str) -> list[dict[str, Any]]:
    return [
        {**worker, "host": host.host, "number": host.number * _NUMBERS + worker["number"]}
        for worker in (host.pool or {}).get(which, ())
    ]
