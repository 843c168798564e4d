"""The process of an rq-worker, without a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from rq.job import Job

from docling_serve.engines.redis.lines import Takes
from docling_serve.engines.redis.task_runner import GIVEN_AWAY
from docling_serve.engines.rq.worker import RqWorkerProcess
from docling_serve.errors import CANCELLED, Failure, TaskFailed
from tests.helpers.eventually import eventually
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rq_engines import rq_settings

NOWHERE = "redis://127.0.0.1:1/"


class StandInRunner:
    """Its tasks end when they are stopped, the oldest first."""

    def __init__(self) -> None:
        self.ends_with: Failure | None = None
        self._stops: asyncio.Queue[Failure] = asyncio.Queue()

    async def run(self, task_id: str, task_data: dict[str, Any]) -> str:
        del task_id, task_data
        raise TaskFailed(await self._stops.get())

    def stop(self, failure: Failure, task_id: str | None = None) -> None:
        del task_id
        self._stops.put_nowait(self.ends_with or failure)


def process_with(workers: int, **settings: Any) -> RqWorkerProcess:
    parts: Any = SimpleNamespace(takes=[Takes.ANY] * workers)
    return RqWorkerProcess(rq_settings(NOWHERE, **settings), parts)


@pytest.fixture
def runner() -> StandInRunner:
    return StandInRunner()


@pytest.fixture
def process(runner: StandInRunner) -> Iterator[RqWorkerProcess]:
    process: Any = process_with(2)
    process._runner = runner
    process._loop.start()
    yield process
    process._loop.stop()


def job_of(process: RqWorkerProcess, limit_s: float | None = None) -> Job:
    job = Job("t", connection=process.connection)
    job.timeout = limit_s
    job.origin = "convert"
    return job


@pytest.mark.parametrize(
    ("ends_with", "expected"),
    [
        (None, lambda failure: failure.category == "timeout"),
        (GIVEN_AWAY, lambda failure: failure is GIVEN_AWAY),
    ],
    ids=["its own", "another worker has it"],
)
def test_a_task_that_takes_too_long(
    process: RqWorkerProcess,
    runner: StandInRunner,
    ends_with: Failure | None,
    expected: Callable[[Failure], bool],
) -> None:
    runner.ends_with = ends_with
    with pytest.raises(TaskFailed) as caught:
        process.run_task(job_of(process, limit_s=0.01), {})
    assert expected(caught.value.failure)


def test_a_task_that_was_put_back_is_counted_twice_until_the_first_attempt_ends(
    process: RqWorkerProcess,
) -> None:
    def running(count: int) -> None:
        message = f"{count} of them run"
        eventually(lambda: process._slots().running == count, within_s=PATIENCE_S, what=message)

    with ThreadPoolExecutor(2) as threads:
        attempts = [threads.submit(process.run_task, job_of(process), {}) for _ in range(2)]
        running(2)
        for left in (1, 0):
            process.stop_task(CANCELLED, "t")
            running(left)
        for attempt in attempts:
            assert isinstance(attempt.exception(PATIENCE_S), TaskFailed)


@pytest.mark.parametrize(("workers", "connections"), [(1, 50), (30, 70)])
def test_every_worker_has_the_connections_that_it_needs(workers: int, connections: int) -> None:
    process = process_with(workers, eng_rq_redis_max_connections=50)
    assert process.connection.connection_pool.max_connections == connections
