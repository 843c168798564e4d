"""How a pool ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import DoclingServeError, ShuttingDown, TaskFailed
from docling_serve.subprocess_worker import SubprocessWorkerPool
from docling_serve.subprocess_worker.pool import worker as worker_module
from docling_serve.subprocess_worker.pool.starter import Starter
from tests.helpers import scriptable_child
from tests.helpers.loops import ON_BOTH_LOOPS, PATIENCE_S, turns, until
from tests.helpers.pools import (
    Gate,
    ScriptedJob,
    climbed_in_vain,
    gone,
    no_worker_left,
    open_pool,
    outcome,
    pool_config,
    states,
)
from tests.helpers.process_ends import has_ended

_LOGGER = "docling_serve.subprocess_worker.pool.worker"

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    ON_BOTH_LOOPS,
]


async def test_closing_lets_a_running_job_finish_in_its_grace(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job, waiting = gate.job(tmp_path), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        first, second = job.begin(pool), waiting.begin(pool)
        await job.introduced.wait()
        closing = asyncio.create_task(pool.close(grace_s=20))
        assert await outcome(second) == "capacity"
        gate.open()

        assert await outcome(first) == "done"
        await closing
        assert not pool.workers()


async def test_closing_without_grace_stops_what_runs(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="hang", grandchild=True)
    async with open_pool(prewarm=1) as pool:
        running = job.begin(pool)
        await job.introduced.wait()
        await pool.close()

        with pytest.raises(TaskFailed, match="was shut down"):
            await running
        assert has_ended(job.pid, within_s=0)
        assert has_ended(job.facts["grandchild"])


async def test_a_closed_pool_takes_nothing_more(tmp_path: Path) -> None:
    async with open_pool() as pool:
        await pool.close()
        job = ScriptedJob.make(tmp_path)
        for refused in (job.run(pool), pool.prewarm(1), pool.clear()):
            with pytest.raises(ShuttingDown):
                await refused


async def test_draining_lets_running_jobs_go_on(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job, waiting = gate.job(tmp_path), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        first, second = job.begin(pool), waiting.begin(pool)
        await job.introduced.wait()
        pool.drain()
        assert await outcome(second) == "capacity"
        gate.open()
        assert await outcome(first) == "done"
        await gone(pool, job)


async def test_draining_lets_a_task_in_parts_go_on(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    first, second = gate.job(tmp_path), ScriptedJob.make(tmp_path, do="segfault", times=1)
    async with open_pool() as pool:
        with pool.more_coming():
            running = first.begin(pool)
            await first.introduced.wait()
            following = asyncio.create_task(second.run(pool, goes_on=True))
            await turns(3)
            pool.drain()
            with pytest.raises(ShuttingDown):
                await ScriptedJob.make(tmp_path).run(pool)
            gate.open()
            assert await outcome(running) == "done"
            assert await outcome(following) == "done", "a lost worker included"
            await ScriptedJob.make(tmp_path).run(pool, goes_on=True)
        await no_worker_left(pool)
        with pytest.raises(ShuttingDown):
            await pool.prewarm()


async def test_a_task_in_parts_ends_with_the_pool(tmp_path: Path) -> None:
    job, waiting = ScriptedJob.make(tmp_path, do="hang"), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        with pool.more_coming():
            running = job.begin(pool)
            await job.introduced.wait()
            following = asyncio.create_task(waiting.run(pool, goes_on=True))
            await turns(3)
            await pool.close()
            assert (await outcome(running), await outcome(following)) == ("capacity",) * 2
            with pytest.raises(ShuttingDown):
                await ScriptedJob.make(tmp_path).run(pool, goes_on=True)


async def test_a_job_that_runs_out_of_memory_while_draining_is_answered(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job = gate.job(tmp_path, do="fail", reason="out_of_memory")
    async with open_pool(retries=1) as pool:
        running = job.begin(pool)
        await job.introduced.wait()
        pool.drain()
        gate.open()
        assert await outcome(running) == "policy"  # what the script says


async def test_a_pool_closes_beside_a_worker_that_survives_its_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps in a driver, say, until the machine is started anew."""
    monkeypatch.setattr(worker_module, "stop", climbed_in_vain)
    config = pool_config(prewarm=1)
    starter = Starter(config, scriptable_child.main)
    pool = SubprocessWorkerPool(config=config, starter=starter)
    await pool.prewarm()
    (standby,) = pool.workers()
    closing = asyncio.create_task(pool.close())
    closed, _ = await asyncio.wait({closing}, timeout=PATIENCE_S)
    try:
        assert closed, "it waits for ever"
        assert states(pool) == ["lost"]
    finally:
        starter.kill_all()
        assert standby.pid is not None
        assert has_ended(standby.pid)
        await until(lambda: not pool.workers())
        closing.cancel()


async def test_a_worker_lost_while_draining_is_not_replaced(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job = gate.job(tmp_path, do="segfault")
    async with open_pool() as pool:
        running = job.begin(pool)
        await job.introduced.wait()
        pool.drain()
        gate.open()

        assert await outcome(running) == "backend_failure"
        assert pool.metrics.workers_started == 1


async def test_killing_all_waits_for_nothing(tmp_path: Path) -> None:
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


class CannotReap(Starter):
    """A mistake where a worker is seen to its end."""

    async def reap(self, process: BaseProcess) -> int | None:
        await super().reap(process)
        raise RuntimeError("a mistake")


async def test_a_mistake_in_here_holds_up_no_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = pool_config(retries=0)
    starter = CannotReap(config, scriptable_child.main)
    pool = SubprocessWorkerPool(config=config, starter=starter)
    job = ScriptedJob.make(tmp_path, do="segfault")
    assert await outcome(job.begin(pool)) == "internal"
    assert pool.workers() == []
    await pool.close()
    assert "a worker's supervision failed" in caplog.text


async def test_a_pool_that_was_never_used_closes() -> None:
    async with open_pool() as pool:
        pool.kill_all()
        pool.drain()
        assert pool.workers() == []


async def _ends(waiting: Awaitable[Any]) -> None:
    """It is refused instead of waiting for ever."""
    try:
        await asyncio.wait_for(asyncio.shield(waiting), PATIENCE_S)
    except DoclingServeError:
        return
    except asyncio.TimeoutError:
        raise AssertionError("it waits for ever") from None


async def test_closing_ends_a_wait_for_standby_workers() -> None:
    async with open_pool(main=scriptable_child.never_ready, stop_grace_s=0.05) as pool:
        waiting = asyncio.create_task(pool.prewarm(1))
        await until(lambda: any(worker.pid for worker in pool.workers()))
        await pool.close()
        await _ends(waiting)


async def test_a_pool_closes_while_a_worker_starts_that_never_gets_ready() -> None:
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


async def test_a_job_that_comes_while_the_pool_closes_is_refused(tmp_path: Path) -> None:
    """It is being compared with requests that took workers down when the end comes."""
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


async def test_what_can_be_seen_of_a_worker(tmp_path: Path) -> None:
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


async def test_each_move_is_logged_with_task_and_pid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="docling_serve.subprocess_worker.pool.worker"):
        job = ScriptedJob.make(tmp_path)
        async with open_pool() as pool:
            await job.run(pool)
            pid = job.pid

    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].endswith(": -> starting")
    assert any(f"-> busy (pid {pid}, task job-" in line for line in lines)
    assert any(f"-> stopping (pid {pid}, task None, reason idle)" in line for line in lines)


async def test_only_ends_that_nobody_asked_for_reach_an_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger=_LOGGER):
        async with open_pool(retries=0) as pool:
            await ScriptedJob.make(tmp_path).run(pool)
            assert [record for record in caplog.records if record.name == _LOGGER] == []
            job = ScriptedJob.make(tmp_path, do="segfault")
            assert await outcome(job.begin(pool)) != "done"

    (line,) = [record.getMessage() for record in caplog.records if record.name == _LOGGER]
    assert line.endswith(
        f"(pid {job.pid}) ended: crashed, SIGSEGV, during task {job.folder.root.name}"
    )
