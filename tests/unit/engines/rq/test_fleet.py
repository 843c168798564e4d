"""Hosts report themselves, and gateways know their workers and how long a task waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from rq import Queue

from docling_serve.engines.redis.hosts import HostReporter, Slots
from docling_serve.engines.redis.lines import Lines
from tests.helpers.rq_engines import TENANT, JobkitWorker, gateway, markdown, uploaded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Host:
    """Stands where an rq-worker is."""

    def __init__(self, connection: Any, slots: Slots, queue: str) -> None:
        self.slots = slots
        self.stopped: asyncio.Queue[int] = asyncio.Queue()
        self.reporter = HostReporter(
            connection, [queue], lambda: self.slots, lambda: ["t"], self._pool, self._stop
        )

    def _stop(self, number: int) -> bool:
        self.stopped.put_nowait(number)
        return True

    def _pool(self) -> dict[str, Any]:
        worker = {"number": 7, "pid": 42, "state": "busy", "task_id": "t", "rss_bytes": 5}
        return {"workers": [worker], "ended": [], "by_state": {"busy": 1}, "waiting": 0}


@asynccontextmanager
async def host(url: str, slots: Slots, queue: str = "convert") -> AsyncIterator[Host]:
    connection = redis.asyncio.Redis.from_url(url)
    there = Host(connection, slots, queue)
    await there.reporter._report()
    yield there
    await connection.aclose()


async def test_without_reports_the_load_is_unknown(redis_url: str) -> None:
    async with gateway(redis_url) as engine, host(redis_url, Slots(workers=2), "another"):
        await engine._fleet.look()
        assert await engine.capacity(TENANT) is None
        view = await engine.submit(markdown())
        assert (view.position, view.ahead, view.expected_wait_s) == (1, None, None)


async def test_light_tasks_have_a_line_of_their_own(redis_url: str, worker: JobkitWorker) -> None:
    slots = Slots(workers=2, light_workers=1, running=2, running_light=0)
    lines = Lines(worker.redis, [Queue("convert", connection=worker.redis)])
    lines.learn("convert", False, 10.0)
    lines.learn("convert", True, 1.0)
    async with gateway(redis_url) as engine, host(redis_url, slots):
        await engine._fleet.look()
        scans = [await engine.submit(uploaded("a.pdf", b"%PDF-1.7")) for _ in range(3)]
        assert [view.position for view in scans] == [1, 2, 3]
        assert [view.ahead for view in scans] == [1, 2, 3]
        assert [view.expected_wait_s for view in scans] == [5.0, 10.0, 15.0]

        note = await engine.submit(markdown())
        assert (note.position, note.ahead, note.expected_wait_s) == (1, 0, 0.0)
        assert (note.light, note.names) == (True, ["t.md"])

        capacity = await engine.capacity(TENANT)
        assert capacity is not None
        assert capacity.light is not None
        heavy, light = capacity.heavy, capacity.light
        assert (heavy.queued, heavy.running, heavy.workers) == (3, 2, 2)
        assert heavy.expected_wait_s == 20.0
        assert (light.queued, light.running, light.workers) == (1, 0, 3)
        acme = await engine.capacity("acme")
        assert acme is not None
        assert acme.heavy.expected_wait_s == 10.0, "only the first of the other tenant is ahead"


async def test_with_one_kind_of_slots_there_is_one_line(redis_url: str) -> None:
    async with gateway(redis_url) as engine, host(redis_url, Slots(workers=1)):
        await engine._fleet.look()
        await engine.submit(uploaded("a.pdf", b"%PDF-1.7"))
        note = await engine.submit(markdown())
        assert (note.position, note.ahead) == (2, 1)
        capacity = await engine.capacity(TENANT)
        assert capacity is not None
        assert (capacity.heavy.queued, capacity.light) == (2, None)


async def test_the_workers_of_all_hosts_are_listed_and_stopped(redis_url: str) -> None:
    slots = Slots(workers=1)
    async with (
        gateway(redis_url) as engine,
        host(redis_url, slots) as one,
        host(redis_url, slots) as two,
    ):
        listening = asyncio.ensure_future(two.reporter._listen())
        await engine._fleet.look()
        described = engine.describe_workers()
        listed = {worker["host"]: worker for worker in described["workers"]}
        assert listed.keys() == {one.reporter.name, two.reporter.name}
        assert len({worker["number"] for worker in listed.values()}) == 2
        assert {worker["pid"] for worker in listed.values()} == {42}
        assert described["by_state"] == {"busy": 2}
        assert [each["tasks"] for each in described["hosts"]] == [["t"], ["t"]]

        assert not engine.stop_worker(7), "which of them?"
        stopped = asyncio.ensure_future(two.stopped.get())
        while not stopped.done():  # the channel may not be listened to yet
            assert engine.stop_worker(listed[two.reporter.name]["number"])
            await asyncio.wait({stopped}, timeout=0.05)
        assert stopped.result() == 7
        assert one.stopped.empty()
        listening.cancel()

        await one.reporter.leave()
        await engine._fleet.look()
        assert [each["host"] for each in engine.describe_workers()["hosts"]] == [two.reporter.name]
