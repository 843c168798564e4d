"""When a worker counts as lost: not at the first look, and never because Redis was away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio
from rq import Queue
from rq.job import JobStatus

from docling_serve.engines.redis.lines import Lines, Takes
from docling_serve.engines.rq.reaper import Reaper, ReaperTimes
from docling_serve.internals import jobkit_rq
from tests.helpers.rq_engines import JobkitWorker, rq_settings

TIMES = ReaperTimes(look_every_s=5.0, missing_for_s=10.0)


class Case:
    """A reaper with a clock that stands still until the test moves it."""

    def __init__(self, url: str) -> None:
        self.worker = JobkitWorker(url, rq_settings(url))
        self.queue = Queue("convert", connection=self.worker.redis)
        self.lines = Lines(self.worker.redis, [self.queue])
        self.now = 0.0
        self.lost: list[str] = []
        self.cannot_be_ended = ""
        self._url = url

    def begin(self, task_id: str) -> None:
        """A worker has the task."""
        self.worker.redis.zadd(self.queue.started_job_registry.key, {f"{task_id}:x": 2**40})

    def end(self, task_id: str) -> None:
        """It has it no more."""
        self.worker.redis.zrem(self.queue.started_job_registry.key, f"{task_id}:x")

    def key(self, task_id: str) -> str:
        return jobkit_rq.heartbeat_key(self.worker.config, task_id)

    @asynccontextmanager
    async def reaper(self) -> AsyncIterator[Reaper]:
        connection = redis.asyncio.Redis.from_url(self._url)
        yield Reaper(
            connection,
            [self.queue],
            self.lines,
            self.worker.config,
            self._on_lost,
            TIMES,
            lambda: self.now,
        )
        await connection.aclose()

    async def _on_lost(self, task_id: str) -> None:
        self.lost.append(task_id)
        if task_id == self.cannot_be_ended:
            raise ValueError("its metadata are no JSON")


@pytest.fixture
def case(redis_url: str) -> Iterator[Case]:
    case = Case(redis_url)
    yield case
    case.worker.redis.close()


async def test_a_worker_without_sign_of_life_is_lost_after_a_while(case: Case) -> None:
    async with case.reaper() as reaper:
        case.begin("t")
        await reaper.look()
        case.now = 9.9
        await reaper.look()
        assert case.lost == []
        case.now = 10.0
        await reaper.look()
        assert case.lost == ["t"]


async def test_a_sign_of_life_starts_the_while_anew(case: Case) -> None:
    async with case.reaper() as reaper:
        case.begin("t")
        await reaper.look()
        case.now = 9.0
        case.worker.redis.set(case.key("t"), "1")
        await reaper.look()
        case.worker.redis.delete(case.key("t"))
        case.now = 12.0
        await reaper.look()
        assert case.lost == []
        case.now = 22.0
        await reaper.look()
        assert case.lost == ["t"]


async def test_a_finished_task_needs_no_worker(case: Case) -> None:
    async with case.reaper() as reaper:
        case.begin("t")
        await reaper.look()
        case.end("t")
        case.now = 100.0
        await reaper.look()
        assert case.lost == []


async def test_a_task_that_cannot_be_ended_saves_no_other(case: Case) -> None:
    async with case.reaper() as reaper:
        for task_id in ("a", "b"):
            case.begin(task_id)
        case.cannot_be_ended = "a"
        await reaper.look()
        case.now += 10
        await reaper.look()
        assert sorted(case.lost) == ["a", "b"]


async def test_each_task_has_a_while_of_its_own(case: Case) -> None:
    async with case.reaper() as reaper:
        case.begin("a")
        await reaper.look()
        case.now = 8.0
        case.begin("b")
        await reaper.look()
        case.now = 12.0
        await reaper.look()
        assert case.lost == ["a"]


async def test_a_job_that_was_taken_and_never_registered_waits_again(case: Case) -> None:
    async with case.reaper() as reaper:
        for job_id in ("a", "b"):
            case.queue.enqueue("any.name", job_id=job_id)
        assert case.lines.take(Takes.ANY) == ("a", case.queue)
        await reaper.look()
        case.now = 9.9
        await reaper.look()
        assert case.queue.job_ids == ["b"]
        case.now = 10.0
        await reaper.look()
        assert case.queue.job_ids == ["a", "b"], "ahead of those that came later"
        assert case.lines.unregistered() == []
        assert not case.lines.registered("a", case.queue), "its first worker has it no more"


async def test_a_job_that_is_registered_or_gone_is_not_put_back(case: Case) -> None:
    async with case.reaper() as reaper:
        for job_id in ("a", "b"):
            case.queue.enqueue("any.name", job_id=job_id)
            case.lines.take(Takes.ANY)
        await reaper.look()
        case.begin("a")
        case.worker.job("b").delete()
        case.now = 20.0
        await reaper.look()
        assert case.queue.job_ids == []
        assert case.lines.unregistered() == [("a", case.queue)], "its worker will remove it"
        case.worker.job("a").set_status(JobStatus.FINISHED)
        case.end("a")
        await reaper.look()
        assert case.queue.job_ids == []
        assert case.lines.unregistered() == []
