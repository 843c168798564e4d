"""The front door, with scripted workers behind it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import DoclingServeError, ShuttingDown, TaskFailed, TaskTimedOut
from docling_serve.jobs import JobResult
from docling_serve.subprocess_worker import SubprocessWorkerPool, WorkerConfig
from tests.helpers import scriptable_child
from tests.helpers.loops import LOOP_KINDS, PATIENCE_S, LoopKind, run_on, turns, until
from tests.helpers.process_ends import has_ended
from tests.unit.subprocess_worker.pools import ScriptedJob, open_pool

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    pytest.mark.parametrize("loop_kind", LOOP_KINDS),
]

KEPT: dict[str, Any] = {"idle_timeout_s": 60.0}


class Gate:
    """Holds jobs up until it is opened; a named pipe, so nobody polls."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        os.mkfifo(self.path)

    def job(self, folder: Path, **options: Any) -> ScriptedJob:
        """A job that waits at this gate."""
        return ScriptedJob.make(folder, wait_for=str(self.path), **options)

    async def open(self) -> None:
        """Let through who waits; waits for somebody to come."""
        await asyncio.to_thread(self.path.write_bytes, b"")


async def gone(pool: SubprocessWorkerPool, job: ScriptedJob) -> None:
    """Wait until the worker that had ``job`` has ended and the pool knows."""
    assert await asyncio.to_thread(has_ended, job.pid)
    await until(lambda: not any(worker.pid == job.pid for worker in pool.workers()))


async def no_worker_left(pool: SubprocessWorkerPool) -> None:
    """Wait until the last worker has ended and the pool knows."""
    for worker in pool.workers():
        if worker.pid is not None:
            assert await asyncio.to_thread(has_ended, worker.pid)
    await until(lambda: not pool.workers())


def states(pool: SubprocessWorkerPool) -> list[str]:
    """Of all workers that are not gone."""
    return sorted(worker.state for worker in pool.workers())


async def outcome(running: asyncio.Task[JobResult]) -> str:
    """``done``, or the category the job failed with."""
    try:
        await running
    except TaskFailed as exc:
        return exc.failure.category
    return "done"


# ---- a job ---------------------------------------------------------------------------------------


def test_a_job_is_run_and_its_reply_left_in_its_folder(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, progress=3)
        async with open_pool() as pool:
            result = await job.run(pool)

            assert job.folder.result_file(result).read_bytes() == scriptable_child.REPLY
            assert job.started.is_set()
            assert [progress.completed_pages for progress in job.progress] == [1, 2, 3]
            assert job.facts == {"pid": job.pid}
            assert pool.metrics.as_dict()["tasks"] == 1
            assert pool.metrics.overhead_seconds > 0

    run_on(loop_kind, work())


def test_what_a_worker_prints_is_printed_by_the_server(
    loop_kind: LoopKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        async with open_pool() as pool:
            await ScriptedJob.make(tmp_path, say="from the worker").run(pool)

    run_on(loop_kind, work())
    assert "from the worker" in capsys.readouterr().err


def test_ten_thousand_signs_of_progress_arrive(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, progress=10_000)
        async with open_pool() as pool:
            await job.run(pool)

            assert [p.completed_pages for p in job.progress] == list(range(1, 10_001))

    run_on(loop_kind, work())


# ---- which worker --------------------------------------------------------------------------------


def test_jobs_run_in_order_in_one_worker_while_jobs_wait(
    loop_kind: LoopKind, tmp_path: Path
) -> None:
    async def work() -> None:
        jobs = [ScriptedJob.make(tmp_path, holds_models=True) for _ in range(4)]
        ended: list[ScriptedJob] = []
        async with open_pool() as pool:
            running = [job.begin(pool) for job in jobs]
            for job, task in zip(jobs, running, strict=True):
                job.note_end(task, ended)
            await asyncio.gather(*running)
            await turns(1)

            assert ended == jobs
            assert len({job.pid for job in jobs}) == 1
            assert pool.metrics.workers_started == 1

    run_on(loop_kind, work())


@pytest.mark.parametrize("holds_models", [False, True])
def test_after_the_last_job_no_worker_is_left(
    loop_kind: LoopKind, tmp_path: Path, holds_models: bool
) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, holds_models=holds_models)
        async with open_pool() as pool:
            await job.run(pool)
            await gone(pool, job)

            assert pool.metrics.stops == {"idle": 1}

    run_on(loop_kind, work())


@pytest.mark.parametrize("holds_models", [False, True])
def test_a_worker_stays_for_its_idle_time(
    loop_kind: LoopKind, tmp_path: Path, holds_models: bool
) -> None:
    async def work() -> None:
        first, second = (ScriptedJob.make(tmp_path, holds_models=holds_models) for _ in range(2))
        async with open_pool(**KEPT) as pool:
            await first.run(pool)
            assert states(pool) == ["warm" if holds_models else "standby"]
            await second.run(pool)

            assert first.pid == second.pid

    run_on(loop_kind, work())


def test_an_idle_worker_goes_when_its_time_is_up(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, holds_models=True)
        async with open_pool(idle_timeout_s=0.05) as pool:
            await job.run(pool)
            await gone(pool, job)

            assert pool.metrics.stops == {"idle": 1}

    run_on(loop_kind, work())


def test_no_more_jobs_run_than_there_are_slots(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        jobs = [gate.job(tmp_path) for _ in range(2)]
        third = ScriptedJob.make(tmp_path)
        async with open_pool(max_workers=2) as pool:
            running = [job.begin(pool) for job in [*jobs, third]]
            for job in jobs:
                await job.introduced.wait()
            assert not third.started.is_set()
            assert pool.snapshot().waiting == 1
            await gate.open()
            await asyncio.gather(*running)

            assert jobs[0].pid != jobs[1].pid

    run_on(loop_kind, work())


def test_a_light_job_does_not_wait_for_a_heavy_one(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        heavy, light = ScriptedJob.make(tmp_path, do="hang"), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            stuck = heavy.begin(pool)
            await heavy.introduced.wait()
            await pool.run(light.folder, "light", light=True)
            stuck.cancel()
            await asyncio.wait({stuck})

    run_on(loop_kind, work())


def test_without_a_lane_light_jobs_wait_like_others(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        heavy, light = gate.job(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool(light_workers=0) as pool:
            first = heavy.begin(pool)
            await heavy.introduced.wait()
            second = asyncio.ensure_future(pool.run(light.folder, "light", light=True))
            await turns(5)
            assert pool.snapshot().waiting == 1
            await gate.open()
            await asyncio.gather(first, second)

    run_on(loop_kind, work())


@pytest.mark.parametrize("holds_models", [True, False])
def test_a_worker_is_replaced_after_its_jobs(
    loop_kind: LoopKind, tmp_path: Path, holds_models: bool
) -> None:
    async def work() -> None:
        jobs = [ScriptedJob.make(tmp_path, holds_models=holds_models) for _ in range(5)]
        async with open_pool(max_tasks=2, prewarm=1, **KEPT) as pool:
            for job in jobs:
                await job.run(pool)

            pids = [job.pid for job in jobs]
            assert len(set(pids)) == 3
            await until(lambda: pool.metrics.stops["max_tasks"] == 2)

    run_on(loop_kind, work())


@pytest.mark.parametrize(
    ("limit", "reason"), [("max_rss_bytes", "max_rss"), ("memory_limit_bytes", "memory_limit")]
)
def test_memory_is_bounded_between_jobs_and_in_them(
    loop_kind: LoopKind, tmp_path: Path, limit: str, reason: str
) -> None:
    async def work() -> None:
        killed = limit == "memory_limit_bytes"
        job = ScriptedJob.make(tmp_path, holds_models=True, do="hang" if killed else "succeed")
        async with open_pool(**{limit: 1, **KEPT}) as pool:
            assert await outcome(job.begin(pool)) == ("capacity" if killed else "done")
            await no_worker_left(pool)
            assert pool.metrics.stops == {reason: 1}

    run_on(loop_kind, work())


class SlowDevice:
    """A stand-in for a device that gives memory back when it is told to."""

    def __init__(self) -> None:
        self.back = asyncio.Event()
        self.waiting = asyncio.Event()

    async def note_before(self, pid: int, device_uuid: str | None = None) -> None:
        """Nothing to note."""
        del pid, device_uuid

    async def wait_after(self, pid: int) -> None:
        del pid
        self.waiting.set()
        await self.back.wait()


def test_a_slot_is_free_when_the_device_memory_is_back(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        device = SlowDevice()
        first = ScriptedJob.make(tmp_path, holds_models=True)
        second = ScriptedJob.make(tmp_path)
        async with open_pool(device=device) as pool:
            await first.run(pool)
            await device.waiting.wait()
            waiting = second.begin(pool)
            await turns(20)
            assert states(pool) == ["releasing"]
            assert not second.started.is_set()
            device.back.set()
            await waiting

    run_on(loop_kind, work())


# ---- spares --------------------------------------------------------------------------------------


def test_prewarmed_workers_have_done_their_imports(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            await pool.prewarm(2)
            assert states(pool) == ["standby", "standby"]
            assert not any(worker.holds_models for worker in pool.workers())
            standby = {worker.pid for worker in pool.workers()}
            await job.run(pool)

            assert job.pid in standby
            assert pool.metrics.workers_started == 2

    run_on(loop_kind, work())


def test_the_configured_number_is_kept_from_the_start(loop_kind: LoopKind) -> None:
    async def work() -> None:
        async with open_pool(prewarm=2) as pool:
            await pool.prewarm()
            assert states(pool) == ["standby", "standby"]

    run_on(loop_kind, work())


def test_a_spare_that_loads_models_is_replaced(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        job = gate.job(tmp_path, loading=True, holds_models=True)
        async with open_pool(prewarm=1) as pool:
            await pool.prewarm()
            running = job.begin(pool)
            await until(lambda: states(pool) == ["loading", "standby"])
            await gate.open()
            await running

    run_on(loop_kind, work())


def test_a_spare_whose_job_needs_no_models_is_not(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_pool(prewarm=1) as pool:
            await pool.prewarm()
            for _ in range(3):
                await ScriptedJob.make(tmp_path).run(pool)

            assert pool.metrics.workers_started == 1

    run_on(loop_kind, work())


# ---- giving up -----------------------------------------------------------------------------------


def test_a_job_that_waits_can_be_cancelled(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        running, waiting = gate.job(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            first, second = running.begin(pool), waiting.begin(pool)
            await running.introduced.wait()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            await gate.open()
            await first

            assert not waiting.started.is_set()
            assert pool.snapshot().waiting == 0

    run_on(loop_kind, work())


def test_a_running_job_is_cancelled_with_its_worker(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
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

    run_on(loop_kind, work())


def test_cancelling_a_job_that_just_ended_harms_no_other(
    loop_kind: LoopKind, tmp_path: Path
) -> None:
    async def work() -> None:
        ending, following = ScriptedJob.make(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            first, second = ending.begin(pool), following.begin(pool)
            await until(lambda: pool.metrics.tasks)
            first.cancel()
            await asyncio.wait({first, second})

            assert second.exception() is None
            assert "cancelled" not in pool.metrics.stops

    run_on(loop_kind, work())


@pytest.mark.parametrize("ignore_sigterm", [False, True])
def test_a_job_is_stopped_at_its_time_limit(
    loop_kind: LoopKind, tmp_path: Path, ignore_sigterm: bool
) -> None:
    async def work() -> None:
        options = {"do": "hang", "progress": 2, "ignore_sigterm": ignore_sigterm}
        job, following = ScriptedJob.make(tmp_path, **options), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            stopped, waiting = job.begin(pool, timeout_s=0.3), following.begin(pool)
            with pytest.raises(TaskTimedOut) as limit:
                await stopped
            await waiting

            assert isinstance(limit.value, TimeoutError)
            failure = limit.value.failure
            assert failure.category == "timeout"
            assert "0.3 s (subprocess_timeout), 2 of 2 pages" in failure.message
            assert failure.details["limit"] == "subprocess_timeout"

    run_on(loop_kind, work())


def test_a_job_without_progress_is_stopped(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, do="hang", progress=1)
        async with open_pool(stall_timeout_s=0.1) as pool:
            failure = await job.failure(pool)

            assert failure.category == "timeout"
            assert failure.details["limit"] == "subprocess_stall_timeout"
            assert pool.metrics.stops == {"stalled": 1}

    run_on(loop_kind, work())


def test_the_time_limit_leaves_out_the_queue(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        slow, quick = gate.job(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            first = slow.begin(pool)
            await slow.introduced.wait()
            second = quick.begin(pool, timeout_s=0.2)
            await asyncio.wait({second}, timeout=0.4)
            assert not second.done()
            await gate.open()
            await asyncio.gather(first, second)

    run_on(loop_kind, work())


@pytest.mark.parametrize("when", ["idle", "running"])
def test_clearing_gives_up_workers_with_models(
    loop_kind: LoopKind, tmp_path: Path, when: str
) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        loaded = gate.job(tmp_path, holds_models=True, progress=1)
        following = ScriptedJob.make(tmp_path)
        async with open_pool(**KEPT) as pool:
            running = loaded.begin(pool)
            await loaded.progressed.wait()
            if when == "running":
                await pool.clear()
            await gate.open()
            await running
            if when == "idle":
                await pool.clear()
            await gone(pool, loaded)
            await following.run(pool)

            assert following.pid != loaded.pid
            assert pool.metrics.stops == {"cleared": 1}

    run_on(loop_kind, work())


def test_clearing_leaves_workers_without_models(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        first, second = ScriptedJob.make(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool(**KEPT) as pool:
            await first.run(pool)
            await pool.clear()
            await second.run(pool)

            assert first.pid == second.pid

    run_on(loop_kind, work())


# ---- starts that fail ----------------------------------------------------------------------------


def test_jobs_fail_after_several_failed_starts(loop_kind: LoopKind, tmp_path: Path) -> None:
    """Takes the 3 s that two back-offs last."""

    async def work() -> None:
        jobs = [ScriptedJob.make(tmp_path) for _ in range(2)]
        async with open_pool(main=scriptable_child.exits_at_start) as pool:
            failures = await asyncio.gather(*(job.failure(pool) for job in jobs))

            for failure in failures:
                assert "could be started" in failure.message
                assert (failure.category, failure.phase) == ("internal", "orchestration")
                assert failure.retryable
            assert pool.metrics.workers_started == 3
            assert pool.metrics.stops == {"start_failed": 3}

    run_on(loop_kind, work())


def test_a_job_survives_one_failed_start(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        worker = WorkerConfig(converter_config={"marker": str(tmp_path / "failed-once")})
        main = scriptable_child.exits_at_first_start
        async with open_pool(main=main, worker=worker) as pool:
            await ScriptedJob.make(tmp_path).run(pool)

            assert pool.metrics.stops["start_failed"] == 1

    run_on(loop_kind, work())


# ---- the end -------------------------------------------------------------------------------------


def test_closing_lets_a_running_job_finish_in_its_grace(
    loop_kind: LoopKind, tmp_path: Path
) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        job, waiting = gate.job(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            first, second = job.begin(pool), waiting.begin(pool)
            await job.introduced.wait()
            closing = asyncio.create_task(pool.close(grace_s=20))
            assert await outcome(second) == "capacity"
            await gate.open()

            assert await outcome(first) == "done"
            await closing
            assert not pool.workers()

    run_on(loop_kind, work())


def test_closing_without_grace_stops_what_runs(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, do="hang", grandchild=True)
        async with open_pool(prewarm=1) as pool:
            running = job.begin(pool)
            await job.introduced.wait()
            await pool.close()

            with pytest.raises(TaskFailed, match="was shut down"):
                await running
            assert has_ended(job.pid, within_s=0)
            assert has_ended(job.facts["grandchild"])

    run_on(loop_kind, work())


def test_a_closed_pool_takes_nothing_more(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_pool() as pool:
            await pool.close()
            job = ScriptedJob.make(tmp_path)
            for refused in (job.run(pool), pool.prewarm(1), pool.clear()):
                with pytest.raises(ShuttingDown):
                    await refused

    run_on(loop_kind, work())


def test_draining_lets_running_jobs_go_on(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        job, waiting = gate.job(tmp_path), ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            first, second = job.begin(pool), waiting.begin(pool)
            await job.introduced.wait()
            pool.drain()
            assert await outcome(second) == "capacity"
            await gate.open()
            assert await outcome(first) == "done"
            await gone(pool, job)

    run_on(loop_kind, work())


def test_a_worker_lost_while_draining_is_not_replaced(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        gate = Gate(tmp_path)
        job = gate.job(tmp_path, do="segfault")
        async with open_pool() as pool:
            running = job.begin(pool)
            await job.introduced.wait()
            pool.drain()
            await gate.open()

            assert await outcome(running) == "backend_failure"
            assert pool.metrics.workers_started == 1

    run_on(loop_kind, work())


def test_killing_all_waits_for_nothing(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        job = ScriptedJob.make(tmp_path, do="hang", ignore_sigterm=True, grandchild=True)
        async with open_pool(prewarm=1, retries=0) as pool:
            await pool.prewarm()
            running = job.begin(pool)
            await job.introduced.wait()
            standby = [worker.pid for worker in pool.workers() if worker.state == "standby"]
            pool.drain()
            pool.kill_all()
            # No turn of the loop: nothing but the kernel has to do with it.
            for pid in [job.pid, job.facts["grandchild"], *standby]:
                assert pid is not None
                assert has_ended(pid)
            assert await outcome(running) == "capacity"

    run_on(loop_kind, work())


def test_a_pool_that_was_never_used_closes(loop_kind: LoopKind) -> None:
    async def work() -> None:
        async with open_pool() as pool:
            pool.kill_all()
            pool.drain()
            assert pool.workers() == []

    run_on(loop_kind, work())


async def _ends(waiting: Awaitable[Any]) -> None:
    """It is refused instead of waiting for ever."""
    try:
        await asyncio.wait_for(asyncio.shield(waiting), 2)
    except DoclingServeError:
        return
    except asyncio.TimeoutError:
        raise AssertionError("it waits for ever") from None


def test_closing_ends_a_wait_for_standby_workers(loop_kind: LoopKind) -> None:
    async def work() -> None:
        async with open_pool(main=scriptable_child.never_ready, stop_grace_s=0.05) as pool:
            waiting = asyncio.create_task(pool.prewarm(1))
            await until(lambda: any(worker.pid for worker in pool.workers()))
            await pool.close()
            await _ends(waiting)

    run_on(loop_kind, work())


def test_a_pool_closes_while_a_worker_starts_that_never_gets_ready(loop_kind: LoopKind) -> None:
    async def work() -> None:
        limits: dict[str, Any] = {"stop_grace_s": 0.05, "start_timeout_s": 0.5}
        async with open_pool(main=scriptable_child.never_ready, **limits) as pool:
            waiting = asyncio.create_task(pool.prewarm(1))
            await until(pool.workers)
            closing = asyncio.create_task(pool.close())
            closed, _ = await asyncio.wait({closing}, timeout=PATIENCE_S)
            waiting.cancel()
            try:
                assert closed, "it waits for ever"
            finally:
                pool.kill_all()
                await closing

    run_on(loop_kind, work())


@asynccontextmanager
async def _busy_threads() -> AsyncIterator[Callable[[], None]]:
    """The loop's default executor has no thread to spare until the yielded function is called."""
    release = threading.Event()
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    blocking = asyncio.ensure_future(asyncio.to_thread(release.wait))
    await turns(2)
    try:
        yield release.set
    finally:
        release.set()
        await blocking


def test_a_job_that_comes_while_the_pool_closes_is_refused(
    loop_kind: LoopKind, tmp_path: Path
) -> None:
    """It is being compared with requests that took workers down when the end comes."""

    async def work() -> None:
        async with open_pool(retries=1) as pool:
            await ScriptedJob.make(tmp_path, do="exit_3").failure(pool)
            async with _busy_threads() as release:
                late = ScriptedJob.make(tmp_path).begin(pool)
                await turns(3)
                pool.drain()
                release()
                await _ends(late)
            late.cancel()
            with suppress(asyncio.CancelledError, DoclingServeError):
                await late

    run_on(loop_kind, work())


def test_what_can_be_seen_of_a_worker(loop_kind: LoopKind, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_pool(idle_timeout_s=60.0) as pool:
            await ScriptedJob.make(tmp_path, say="a word").run(pool)
            (idle,) = pool.workers()
            assert idle.measures["core_dumps_off"] == "on"
            assert idle.measures["nice"] == "not asked for"
            assert 0 < idle.rss_bytes <= idle.peak_rss_bytes
            assert idle.last_output == []
            await pool.prewarm(0)
            await pool.close()
            ended = pool.snapshot().ended
            assert "a word" in ended[-1].last_output
            seconds = pool.metrics.state_seconds
            assert pool.metrics.moves["starting"] == pool.metrics.workers_started
            assert seconds["starting"] > 0
            assert seconds["busy"] > 0

    run_on(loop_kind, work())


def test_each_move_is_logged_with_task_and_pid(
    loop_kind: LoopKind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> int:
        job = ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            await job.run(pool)
            return job.pid

    with caplog.at_level("INFO", logger="docling_serve.subprocess_worker.worker"):
        pid = run_on(loop_kind, work())

    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].endswith(": -> starting")
    assert any(f"-> busy (pid {pid}, task job-" in line for line in lines)
    assert any(f"-> stopping (pid {pid}, task None, reason idle)" in line for line in lines)
