"""Which worker a pool gives a job to, and how many it keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.helpers.loops import ON_BOTH_LOOPS, turns, until
from tests.helpers.pools import (
    KEPT,
    Gate,
    GrantsOf,
    HeldGrant,
    ScriptedJob,
    gone,
    no_worker_left,
    open_pool,
    outcome,
    states,
)

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    ON_BOTH_LOOPS,
]


# ---- which worker --------------------------------------------------------------------------------


async def test_jobs_run_in_order_in_one_worker_while_jobs_wait(tmp_path: Path) -> None:
    gate, starts = Gate(tmp_path), list[ScriptedJob]()
    held = gate.job(tmp_path, holds_models=True)
    held.starts = starts
    others = [ScriptedJob.make(tmp_path, holds_models=True) for _ in range(3)]
    jobs = [held, *others]
    async with open_pool() as pool:
        running = [held.begin(pool)]
        await held.started.wait()
        running += [await job.begin_in_line(pool, starts) for job in others]
        gate.open()
        await asyncio.gather(*running)

        assert starts == jobs
        assert len({job.pid for job in jobs}) == 1
        assert pool.metrics.workers_started == 1


@pytest.mark.parametrize("holds_models", [False, True])
async def test_after_the_last_job_no_worker_is_left(tmp_path: Path, holds_models: bool) -> None:
    job = ScriptedJob.make(tmp_path, holds_models=holds_models)
    async with open_pool() as pool:
        await job.run(pool)
        await gone(pool, job)

        assert pool.metrics.stops == {"idle": 1}


@pytest.mark.parametrize("holds_models", [False, True])
async def test_a_worker_stays_for_its_idle_time(tmp_path: Path, holds_models: bool) -> None:
    first, second = (ScriptedJob.make(tmp_path, holds_models=holds_models) for _ in range(2))
    async with open_pool(**KEPT) as pool:
        await first.run(pool)
        assert states(pool) == ["warm" if holds_models else "standby"]
        await second.run(pool)

        assert first.pid == second.pid


async def test_an_idle_worker_goes_when_its_time_is_up(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, holds_models=True)
    async with open_pool(idle_timeout_s=0.05) as pool:
        await job.run(pool)
        await gone(pool, job)

        assert pool.metrics.stops == {"idle": 1}


async def test_no_more_jobs_run_than_there_are_slots(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    jobs = [gate.job(tmp_path) for _ in range(2)]
    third = ScriptedJob.make(tmp_path)
    async with open_pool(max_workers=2) as pool:
        running = [job.begin(pool) for job in [*jobs, third]]
        for job in jobs:
            await job.introduced.wait()
        await until(lambda: pool.snapshot().waiting == 1)
        assert not third.started.is_set()
        gate.open()
        await asyncio.gather(*running)

        assert jobs[0].pid != jobs[1].pid


async def test_a_light_job_does_not_wait_for_a_heavy_one(tmp_path: Path) -> None:
    heavy, light = ScriptedJob.make(tmp_path, do="hang"), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        stuck = heavy.begin(pool)
        await heavy.introduced.wait()
        await pool.run(light.folder, "light", light=True)
        stuck.cancel()
        await asyncio.wait({stuck})


async def test_without_a_lane_light_jobs_wait_like_others(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    heavy, light = gate.job(tmp_path), ScriptedJob.make(tmp_path)
    async with open_pool(light_workers=0) as pool:
        first = heavy.begin(pool)
        await heavy.introduced.wait()
        second = asyncio.ensure_future(pool.run(light.folder, "light", light=True))
        await until(lambda: pool.snapshot().waiting == 1)
        gate.open()
        await asyncio.gather(first, second)


@pytest.mark.parametrize("holds_models", [True, False])
async def test_a_worker_is_replaced_after_its_jobs(tmp_path: Path, holds_models: bool) -> None:
    jobs = [ScriptedJob.make(tmp_path, holds_models=holds_models) for _ in range(5)]
    async with open_pool(max_tasks=2, prewarm=1, **KEPT) as pool:
        for job in jobs:
            await job.run(pool)

        pids = [job.pid for job in jobs]
        assert len(set(pids)) == 3
        await until(lambda: pool.metrics.stops["max_tasks"] == 2)


@pytest.mark.parametrize(
    ("limit", "reason"), [("max_rss_bytes", "max_rss"), ("memory_limit_bytes", "memory_limit")]
)
async def test_memory_is_bounded_between_jobs_and_in_them(
    tmp_path: Path, limit: str, reason: str
) -> None:
    killed = limit == "memory_limit_bytes"
    job = ScriptedJob.make(tmp_path, holds_models=True, do="hang" if killed else "succeed")
    async with open_pool(**{limit: 1, **KEPT}) as pool:
        assert await outcome(job.begin(pool)) == ("capacity" if killed else "done")
        await no_worker_left(pool)
        assert pool.metrics.stops == {reason: 1}


async def test_a_slot_is_free_when_the_device_memory_is_back(tmp_path: Path) -> None:
    grant = HeldGrant()
    first = ScriptedJob.make(tmp_path, holds_models=True)
    second = ScriptedJob.make(tmp_path)
    async with open_pool(admission=GrantsOf(grant)) as pool:
        await first.run(pool)
        await grant.waited_for.wait()
        waiting = second.begin(pool)
        await turns(20)
        assert states(pool) == ["releasing"]
        assert not second.started.is_set()
        grant.back.set()
        await waiting


async def test_a_job_without_models_asks_for_no_device_memory(tmp_path: Path) -> None:
    admission = GrantsOf(HeldGrant())
    async with open_pool(admission=admission) as pool:
        job = ScriptedJob.make(tmp_path)
        await pool.run(job.folder, job.folder.root.name, light=True)

        assert admission.kinds == []


# ---- spares --------------------------------------------------------------------------------------


async def test_prewarmed_workers_have_done_their_imports(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        await pool.prewarm(2)
        assert states(pool) == ["standby", "standby"]
        assert not any(worker.holds_models for worker in pool.workers())
        standby = {worker.pid for worker in pool.workers()}
        await job.run(pool)

        assert job.pid in standby
        assert pool.metrics.workers_started == 2


async def test_the_configured_number_is_kept_from_the_start() -> None:
    async with open_pool(prewarm=2) as pool:
        await pool.prewarm()
        assert states(pool) == ["standby", "standby"]


async def test_a_spare_that_loads_models_is_replaced(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job = gate.job(tmp_path, loading=True, holds_models=True)
    async with open_pool(prewarm=1) as pool:
        await pool.prewarm()
        running = job.begin(pool)
        await until(lambda: states(pool) == ["loading", "standby"])
        gate.open()
        await running


async def test_a_spare_whose_job_needs_no_models_is_not(tmp_path: Path) -> None:
    async with open_pool(prewarm=1) as pool:
        await pool.prewarm()
        for _ in range(3):
            await ScriptedJob.make(tmp_path).run(pool)

        assert pool.metrics.workers_started == 1


# ---- stopping one --------------------------------------------------------------------------------


async def test_stopping_an_idle_worker_costs_no_job(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path)
    async with open_pool(**KEPT) as pool:
        await job.run(pool)
        (worker,) = pool.workers()

        assert pool.stop_worker(worker.number)
        await gone(pool, job)
        assert pool.metrics.stops == {"cleared": 1}
        assert not pool.stop_worker(worker.number)


async def test_stopping_a_busy_worker_cancels_its_job(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="hang")
    async with open_pool() as pool:
        running = job.begin(pool)
        await job.started.wait()
        (worker,) = pool.workers()

        assert pool.stop_worker(worker.number)
        assert await outcome(running) == "policy"
        assert pool.metrics.stops == {"cancelled": 1}
