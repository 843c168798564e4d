"""Give waiting tasks to actors: which task is next, and how many actors there are.

The queues and the state of every task are in Redis. What is kept here can be lost: a new dispatcher
finds the actors, and asks them which tasks they have.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from redis import RedisError

from docling_serve.engines.ray.queues import Ended, TenantQueues
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

_TRY_AGAIN_S = 1.0
_FIRST_BACKOFF_S = 1.0
_MAX_BACKOFF_S = 60.0


class HostLost(Exception):
    """The actor does not exist any more."""


class Hosts(Protocol):
    """The actors, by name."""

    async def existing(self) -> list[str]:
        """The names of all actors, those that are starting included."""
        ...

    async def start(self, name: str) -> None:
        """Make an actor, and wait until it takes tasks. Raises if it cannot be made."""
        ...

    async def running(self, name: str) -> list[str]:
        """The tasks that an actor runs. Waits until it has started. Raises ``HostLost``."""
        ...

    async def run(self, name: str, task_id: str) -> None:
        """Run a task to its end, whatever that is; if it runs already, wait for its end. Raises
        ``HostLost``."""
        ...

    async def gone(self, name: str) -> None:
        """Wait until the actor does not exist any more."""
        ...

    async def clear(self, name: str) -> None:
        """Have an actor free what loaded converters hold. Raises ``HostLost``."""
        ...

    async def stop(self, name: str) -> None:
        """Have an actor that runs nothing exit."""
        ...


@dataclass(frozen=True)
class Scaling:
    """How many actors there are. Times are in seconds; ``at_once`` is how many tasks one runs."""

    least: int
    most: int
    at_once: int
    per_host: float
    up_after_s: float
    down_after_s: float

    @classmethod
    def from_settings(cls, settings: DoclingServeSettings) -> Scaling:
        """The scaling that the settings ask for."""
        return cls(
            least=settings.eng_ray_min_actors,
            most=max(settings.eng_ray_min_actors, settings.eng_ray_max_actors),
            at_once=settings.eng_ray_tasks_per_actor,
            per_host=settings.eng_ray_target_requests_per_replica,
            up_after_s=settings.eng_ray_upscale_delay_s,
            down_after_s=settings.eng_ray_downscale_delay_s,
        )

    def wanted(self, tasks: int) -> int:
        """The number of actors for so many running and waiting tasks."""
        return min(self.most, max(self.least, math.ceil(tasks / self.per_host)))


@dataclass
class _Host:
    name: str
    ready: bool = False
    stopping: bool = False
    tasks: set[str] = field(default_factory=set)
    idle_since: float = 0.0


@dataclass(frozen=True)
class Rules:
    """What the settings say of the dispatcher. ``prefix`` starts the names of its actors. Lost
    tasks are looked for every ``look_every_s``."""

    prefix: str
    scaling: Scaling
    retries: int
    retry_delay_s: float
    look_every_s: float
    heartbeat: bool = True


class Dispatcher:
    """Runs in one process of the cluster at a time. ``on_ended`` is called for a task that no actor
    can report the end of."""

    def __init__(
        self,
        queues: TenantQueues,
        hosts: Hosts,
        rules: Rules,
        on_ended: Callable[[Ended], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = queues
        self._actors = hosts
        self._rules = rules
        self._on_ended = on_ended
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        self._followed: set[str] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._something_new = asyncio.Event()
        self._short_since: float | None = None
        self._reconciled = -math.inf
        self._next_number = 0
        self._backoff_s = _FIRST_BACKOFF_S
        self._no_start_before = -math.inf

    # ---- from outside -----------------------------------------------------------------------

    def wake(self) -> None:
        """There is something new in Redis."""
        self._something_new.set()

    async def clear(self) -> None:
        """Have all actors free what loaded converters hold."""
        ready = [host.name for host in self._hosts.values() if host.ready]
        await asyncio.gather(*(self._actors.clear(n) for n in ready), return_exceptions=True)

    async def run(self) -> None:
        """Work for as long as this process runs."""
        try:
            await self._adopt()
            while True:
                self._something_new.clear()
                wait_s = await self._look()
                await self._wait(wait_s)
        finally:
            for job in self._jobs:
                job.cancel()

    async def _wait(self, wait_s: float) -> None:
        # Not wait_for, which may swallow a cancellation (Python before 3.12).
        news = asyncio.ensure_future(self._something_new.wait())
        try:
            await asyncio.wait({news}, timeout=wait_s)
        finally:
            news.cancel()

    # ---- one round --------------------------------------------------------------------------

    async def _look(self) -> float:
        """One round; returns the seconds until the next one is due."""
        began = self._clock()
        try:
            await self._reconcile()
            await self._assign()
            self._scale(await self._queues.waiting())
        except (RedisError, OSError) as exc:
            _log.warning("Redis does not answer: %s; trying again", exc)
            return _TRY_AGAIN_S
        except Exception:  # noqa: BLE001 - without this loop no task runs any more
            _log.exception("a round of the dispatcher failed")
            return _TRY_AGAIN_S
        return min(self._rules.look_every_s, self._next_change_s(began))

    async def _assign(self) -> None:
        while (host := self._free_host()) is not None:
            task_id = await self._queues.take()
            if task_id is None:
                return
            host.tasks.add(task_id)
            self._begin(self._follow(host, task_id))

    def _free_host(self) -> _Host | None:
        """The busiest actor that is below its target, so that the others may become idle. Where
        all have reached it, the one with the fewest tasks that may have another."""
        scaling = self._rules.scaling
        usable = [h for h in self._hosts.values() if h.ready and not h.stopping]
        free = [host for host in usable if len(host.tasks) < scaling.at_once]
        below = [host for host in free if len(host.tasks) < scaling.per_host]
        if below:
            return max(below, key=lambda host: len(host.tasks))
        return min(free, key=lambda host: len(host.tasks), default=None)

    async def _follow(self, host: _Host, task_id: str) -> None:
        """Have ``host`` run the task; if the host is lost, the task is not."""
        self._followed.add(task_id)
        try:
            try:
                await self._actors.run(host.name, task_id)
            except HostLost:
                _log.warning("actor %s was lost; it had task %s", host.name, task_id)
                self._forget(host)
                await asyncio.sleep(self._rules.retry_delay_s)
                await self._rescue(task_id)
        finally:
            self._followed.discard(task_id)
            host.tasks.discard(task_id)
            host.idle_since = self._clock()
            self.wake()

    async def _rescue(self, task_id: str) -> None:
        while True:
            try:
                task = await self._queues.read(task_id)
                if task is not None:
                    ended = await self._queues.put_back_or_end(task, self._rules.retries)
                    if ended is not None:
                        self._on_ended(ended)
                return
            except (RedisError, OSError) as exc:
                _log.warning("task %s: Redis does not answer: %s", task_id, exc)
                await asyncio.sleep(_TRY_AGAIN_S)

    async def _reconcile(self) -> None:
        """Find tasks that an earlier dispatcher, or an actor, has left behind."""
        now = self._clock()
        if now - self._reconciled < self._rules.look_every_s:
            return
        for task in await self._queues.lost(self._followed):
            await self._rescue(task.task_id)
        if self._rules.heartbeat:
            await self._queues.show_life()
        self._reconciled = now

    # ---- actors -----------------------------------------------------------------------------

    async def _adopt(self) -> None:
        """Take over the actors of an earlier dispatcher."""
        for name in await self._actors.existing():
            # Actors that were made for other settings finish what they have, and exit.
            host = _Host(name, stopping=not name.startswith(self._rules.prefix))
            self._hosts[name] = host
            host.idle_since = self._clock()
            self._begin(self._live(host, self._take_over(host)))
        # Before this is known, tasks that an actor has would look lost.
        self._reconciled = self._clock()

    async def _take_over(self, host: _Host) -> None:
        for task_id in await self._actors.running(host.name):
            host.tasks.add(task_id)
            self._begin(self._follow(host, task_id))

    def _scale(self, waiting: int) -> None:
        scaling, now = self._rules.scaling, self._clock()
        kept = [host for host in self._hosts.values() if not host.stopping]
        running = sum(len(host.tasks) for host in kept)
        wanted = scaling.wanted(running + waiting)
        missing = wanted - len(kept)
        if missing <= 0:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        at_once = len(kept) < max(1, scaling.least)
        if missing > 0 and now >= self._no_start_before:
            assert self._short_since is not None
            if at_once or now - self._short_since >= scaling.up_after_s:
                for _ in range(missing):
                    self._start_one()
                self._short_since = None
        self._stop_idle(kept, max(0, len(kept) - wanted))

    def _stop_idle(self, kept: list[_Host], surplus: int) -> None:
        long_ago = self._clock() - self._rules.scaling.down_after_s
        idle = [host for host in kept if not host.tasks and host.idle_since <= long_ago]
        idle.sort(key=lambda host: host.ready)  # those that wait for room in the cluster first
        hosts = self._hosts.values()
        old = [host for host in hosts if host.stopping and host.ready and not host.tasks]
        for host in [*idle[:surplus], *old]:
            host.stopping, host.ready = True, False
            _log.info("actor %s is stopped", host.name)
            self._begin(self._actors.stop(host.name))

    def _start_one(self) -> None:
        self._next_number += 1
        host = _Host(
            f"{self._rules.prefix}{time.time_ns():x}-{self._next_number}", idle_since=self._clock()
        )
        self._hosts[host.name] = host
        self._begin(self._live(host, self._actors.start(host.name)))

    async def _live(self, host: _Host, coming: Awaitable[None]) -> None:
        """The life of an actor, from before it is ready until it is gone."""
        came = False
        try:
            await coming
            came = True
            _log.info("actor %s is ready", host.name)
            host.ready = True
            host.idle_since = self._clock()
            self._backoff_s = _FIRST_BACKOFF_S
            self.wake()
            await self._actors.gone(host.name)
        except HostLost as exc:
            if not came and not host.stopping:
                self._hold_back(host, exc)
        except Exception as exc:  # noqa: BLE001 - whatever prevents it, another is tried later
            self._hold_back(host, exc)
        self._forget(host)
        self.wake()

    def _hold_back(self, host: _Host, exc: Exception) -> None:
        """Start no other actor for a while: ``host`` did not get ready."""
        _log.error("actor %s cannot be started: %s", host.name, exc)
        self._no_start_before = self._clock() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, _MAX_BACKOFF_S)

    def _forget(self, host: _Host) -> None:
        host.ready = False
        if self._hosts.pop(host.name, None) is not None:
            _log.info("actor %s is gone", host.name)

    def _next_change_s(self, began: float) -> float:
        """Seconds until the number of actors may have to change without anything new. What was due
        when the round ``began`` has been seen to."""
        scaling = self._rules.scaling
        due = [self._reconciled + self._rules.look_every_s]
        if self._short_since is not None:
            due.append(max(self._short_since + scaling.up_after_s, self._no_start_before))
        due += [
            host.idle_since + scaling.down_after_s
            for host in self._hosts.values()
            if not host.tasks and len(self._hosts) > scaling.least
        ]
        coming = min((at for at in due if at > began), default=math.inf)
        return max(_TRY_AGAIN_S / 10, coming - self._clock())

    def _begin(self, work: Awaitable[Any]) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._done)

    def _done(self, job: asyncio.Task[Any]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            _log.error("the dispatcher failed at something", exc_info=error)
