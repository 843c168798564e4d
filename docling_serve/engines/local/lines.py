"""Waiting tasks: which is next, how long it may take, and whether there is room for more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from docling_serve.engines.base import Capacity, LineCapacity
from docling_serve.engines.local.fair_queue import FairQueue
from docling_serve.engines.local.service_times import ServiceTimes
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import QueueFull


class Line:
    """A fair queue, and ``hand_over`` slots for tasks taken out of it for ``workers`` workers.

    A task that was handed over still waits until the runner starts it, ahead of all others.
    """

    def __init__(self, hand_over: int, workers: int) -> None:
        self.hands = asyncio.Semaphore(hand_over)
        self.times = ServiceTimes(workers)
        self._queue: FairQueue[TaskRecord] = FairQueue()
        self._handed: list[TaskRecord] = []
        self._running: set[TaskRecord] = set()
        self._arrived = asyncio.Event()

    def put(self, record: TaskRecord) -> None:
        """Queue a task; its share of the tenant's turn is measured in documents."""
        self._queue.put(record, record.row.tenant, float(max(1, record.row.num_docs)))
        self._arrived.set()

    async def take(self) -> TaskRecord:
        """The next task, once there is one."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        record = self._queue.take()
        self._handed.append(record)
        return record

    def started(self, record: TaskRecord) -> None:
        """The runner has started this task, which it was handed."""
        self._handed.remove(record)
        self._running.add(record)

    def left(self, record: TaskRecord) -> bool:
        """Remove a task that no longer waits or runs; returns whether it waited until now."""
        if record in self._handed:
            self._handed.remove(record)
            return True
        self._running.discard(record)
        return self._queue.discard(record)

    def position(self, record: TaskRecord) -> int | None:
        """From 1; None for a task that does not wait here."""
        if record in self._handed:
            return self._handed.index(record) + 1
        if record in self._queue:
            return len(self._handed) + self._queue.position(record)
        return None

    def ahead(self, record: TaskRecord) -> int | None:
        """How many tasks must leave before this one starts; None for one that does not wait."""
        position = self.position(record)
        return None if position is None else max(0, position - self._idle())

    def waiting(self) -> Iterator[TaskRecord]:
        """The waiting tasks, in the order in which they will start if no more arrive."""
        yield from self._handed
        yield from self._queue

    def __len__(self) -> int:
        return len(self._handed) + len(self._queue)

    def capacity(self, tenant: str) -> LineCapacity:
        """The load, as a next task of ``tenant`` would find it."""
        before = len(self._handed) + self._queue.position_of_next(tenant) - self._idle()
        return LineCapacity(
            queued=len(self),
            running=len(self._running),
            workers=self.times.workers,
            expected_wait_s=round(self.times.wait_s(max(0, before)), 1),
        )

    def _idle(self) -> int:
        return max(0, self.times.workers - len(self._running))


@dataclass(frozen=True)
class QueueLimits:
    """Limits on what may wait; 0 means no limit."""

    tasks: int = 0
    bytes: int = 0
    age_s: float = 0.0


class Lines:
    """Both lines, and the room they share: documents that need no models do not wait behind
    others, see ``light``."""

    def __init__(self, heavy: Line, light: Line | None, limits: QueueLimits) -> None:
        self._heavy = heavy
        self._light = light
        self.limits = limits
        self._tasks: Counter[str] = Counter()
        self._bytes = 0

    def all(self) -> list[Line]:
        """The lines in use."""
        return [self._heavy] if self._light is None else [self._heavy, self._light]

    def of(self, record: TaskRecord) -> Line:
        """The line that a task belongs to."""
        return self._heavy if self._light is None or not record.row.light else self._light

    def reserve(self, tenant: str, size: int) -> None:
        """Reserve room for a task of ``size`` bytes that is about to be accepted.

        Raises:
            QueueFull: there is none. A tenant that holds less than its share of the places is still
                admitted, up to twice the limit in all: no tenant is locked out by others.
        """
        limits = self.limits
        total = self._tasks.total()
        if limits.tasks and total >= limits.tasks:
            tenants = len({*self._tasks, tenant})
            if self._tasks[tenant] >= limits.tasks // tenants or total >= 2 * limits.tasks:
                raise self._full(f"{total} tasks are waiting", total - limits.tasks + 1)
        if limits.bytes and self._bytes and self._bytes + size > limits.bytes:
            raise self._full("the documents of waiting tasks take all the space", 1)
        self.keep(tenant, size)

    def keep(self, tenant: str, size: int) -> None:
        """Reserve the room of a task that was accepted before, whatever the limits."""
        self._tasks[tenant] += 1
        self._bytes += size

    def give_back(self, tenant: str, size: int) -> None:
        """Release the room of a task that no longer waits, or was never accepted."""
        self._tasks[tenant] -= 1
        self._bytes -= size
        if not self._tasks[tenant]:
            del self._tasks[tenant]

    def put(self, record: TaskRecord) -> None:
        """Queue a task that has its room."""
        self.of(record).put(record)

    def started(self, record: TaskRecord) -> None:
        """The runner has started it; its room is released."""
        self.of(record).started(record)
        self.give_back(record.row.tenant, record.row.input_bytes)

    def left(self, record: TaskRecord) -> None:
        """It no longer waits or runs."""
        if self.of(record).left(record):
            self.give_back(record.row.tenant, record.row.input_bytes)

    def learn(self, record: TaskRecord) -> None:
        """Record how long an earlier server's task took: the expectation until one has finished."""
        row = record.row
        if row.failure is None and row.started and row.finished:
            self.of(record).times.ended(row.finished - row.started)

    def position(self, record: TaskRecord) -> int | None:
        """From 1; None for a task that does not wait."""
        return self.of(record).position(record)

    def waiting(self) -> list[TaskRecord]:
        """Every task that has not started."""
        return [record for line in self.all() for record in line.waiting()]

    def __len__(self) -> int:
        return sum(len(line) for line in self.all())

    def capacity(self, tenant: str) -> Capacity:
        """The load, as the next task of ``tenant`` would find it."""
        light = self._light
        limit = self.limits.tasks
        return Capacity(
            heavy=self._heavy.capacity(tenant),
            light=light.capacity(tenant) if light is not None else None,
            room=max(0, limit - self._tasks.total()) if limit else None,
        )

    def _full(self, why: str, places: int) -> QueueFull:
        # The line that empties first frees room first.
        waits = [line.times.retry_after_s(places, len(line)) for line in self.all() if len(line)]
        return QueueFull(f"The queue is full: {why}. Try again later.", min(waits, default=1))
