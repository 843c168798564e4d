"""When a job of a pool is given up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docling_serve.errors import TaskTimedOut
from tests.helpers.loops import ON_BOTH_LOOPS, until
from tests.helpers.pools import (
    KEPT,
    Gate,
    ScriptedJob,
    gone,
    open_pool,
    stopped_at_its_limit,
)
from tests.helpers.process_ends import has_ended

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    ON_BOTH_LOOPS,
]


async def test_a_job_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    running, waiting = gate.job(tmp_path), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        first, second = running.begin(pool), waiting.begin(pool)
        await running.introduced.wait()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.open()
        await first

        assert not waiting.started.is_set()
        assert pool.snapshot().waiting == 0


async def test_a_running_job_is_cancelled_with_its_worker(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="hang")
    async with open_pool() as pool:
        running = job.begin(pool)
        await job.introduced.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert has_ended(job.pid, within_s=0), "its folder must not be written to any more"
        assert pool.metrics.stops == {"cancelled": 1}
        assert pool.metrics.losses == {}, "we ended it ourselves"
        await ScriptedJob.make(tmp_path).run(pool)


async def test_cancelling_a_job_that_just_ended_harms_no_other(tmp_path: Path) -> None:
    ending, following = ScriptedJob.make(tmp_path), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        first, second = ending.begin(pool), following.begin(pool)
        await until(lambda: pool.metrics.total_tasks)
        first.cancel()
        await asyncio.wait({first, second})

        assert second.exception() is None
        assert "cancelled" not in pool.metrics.stops


@pytest.mark.parametrize("ignore_sigterm", [False, True])
async def test_a_job_is_stopped_at_its_time_limit(tmp_path: Path, ignore_sigterm: bool) -> None:
    options = {"do": "hang", "progress": 2, "ignore_sigterm": ignore_sigterm}
    following = ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        stopping = asyncio.ensure_future(
            stopped_at_its_limit(
                pool,
                lambda: ScriptedJob.make(tmp_path, **options),
                lambda job: len(job.progress) == 2,
            )
        )
        await until(lambda: pool.snapshot().workers)
        waiting = following.begin(pool)
        _, error, limit_s = await stopping
        await waiting

        assert isinstance(error, TaskTimedOut)
        assert isinstance(error, TimeoutError)
        assert error.failure.category == "timeout"
        assert f"{limit_s:g} s (subprocess_timeout), 2 of 2 pages" in error.failure.message
        assert error.failure.details["limit"] == "subprocess_timeout"


async def test_a_job_without_progress_is_stopped(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="hang", progress=1)
    async with open_pool(stall_timeout_s=0.1) as pool:
        failure = await job.failure(pool)

        assert failure.category == "timeout"
        assert failure.details["limit"] == "subprocess_stall_timeout"
        assert pool.metrics.stops == {"stalled": 1}


async def test_the_time_limit_leaves_out_the_queue(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    slow, limited = gate.job(tmp_path), ScriptedJob.make(tmp_path, do="hang")
    async with open_pool() as pool:
        first = slow.begin(pool)
        await slow.introduced.wait()
        second = limited.begin(pool, timeout_s=0.2)
        await asyncio.wait({second}, timeout=0.4)
        assert not second.done()
        gate.open()
        await first
        with pytest.raises(TaskTimedOut):
            await second


@pytest.mark.parametrize("when", ["idle", "running"])
async def test_clearing_gives_up_workers_with_models(tmp_path: Path, when: str) -> None:
    gate = Gate(tmp_path)
    loaded = gate.job(tmp_path, holds_models=True, progress=1)
    following = ScriptedJob.make(tmp_path)
    async with open_pool(**KEPT) as pool:
        running = loaded.begin(pool)
        await loaded.progressed.wait()
        if when == "running":
            await pool.clear()
        gate.open()
        await running
        if when == "idle":
            await pool.clear()
        await gone(pool, loaded)
        await following.run(pool)

        assert following.pid != loaded.pid
        assert pool.metrics.stops == {"cleared": 1}


async def test_clearing_leaves_workers_without_models(tmp_path: Path) -> None:
    first, second = ScriptedJob.make(tmp_path), ScriptedJob.make(tmp_path)
    async with open_pool(**KEPT) as pool:
        await first.run(pool)
        await pool.clear()
        await second.run(pool)

        assert first.pid == second.pid
