"""Phase of a job x way of failing, on real worker processes under both start methods."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from docling_serve.errors import CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY
from docling_serve.subprocess_worker import StartMethod, SubprocessWorkerPool
from docling_serve.subprocess_worker.pool.losses import REFUSED
from tests.helpers import scriptable_child
from tests.helpers.loops import ON_BOTH_LOOPS, ON_UVLOOP, until
from tests.helpers.pools import Gate, ScriptedJob, open_pool, stopped_at_its_limit
from tests.helpers.process_ends import ROOT, has_ended, python

pytestmark = pytest.mark.usefixtures("nothing_is_left")

#: Production runs on uvloop and spawns; the others must not differ.
STARTS = pytest.mark.parametrize("start_method", ["spawn", "forkserver"])

#: Way of ending -> category, part of the message, exit as the failure tells it.
CRASHES = {
    "exit_0": ("internal", "exited early (code 0)", "code 0"),
    "exit_3": ("internal", "exited early (code 3)", "code 3"),
    "segfault": ("backend_failure", "crashed (SIGSEGV)", "SIGSEGV"),
    "abort": ("backend_failure", "crashed (SIGABRT)", "SIGABRT"),
    "sigkill_self": ("capacity", "killed from outside (SIGKILL)", "SIGKILL"),
}
UNFINISHED = ("before_ack", "after_ack", "mid_frame", "after_rename")


def test_the_tables_name_every_phase_and_end() -> None:
    assert {*UNFINISHED, "after_done"} == set(scriptable_child.PHASES)
    assert {*CRASHES, "hang", "hang_gil"} == set(scriptable_child.ENDS)


async def _loses(pool: SubprocessWorkerPool, folder: Path, do: str, phase: str) -> None:
    """A job takes its worker down; that is what it fails with, and it is counted."""
    category, says, exit_text = CRASHES[do]
    before = pool.metrics.losses[exit_text], pool.metrics.stops["crashed"]
    lost = ScriptedJob.make(folder, do=do, at=phase)
    failure = await lost.failure(pool)

    assert failure.category == category
    assert says in failure.message
    assert failure.details["exit"] == exit_text
    assert lost.started.is_set() is (phase != "before_ack")
    assert (pool.metrics.losses[exit_text], pool.metrics.stops["crashed"]) == (
        before[0] + 1,
        before[1] + 1,
    )


async def _hangs(pool: SubprocessWorkerPool, folder: Path, do: str, phase: str) -> None:
    """A job does not end; it is stopped at its limit, and that is what it fails with."""
    before = pool.metrics.stops["timed_out"]
    failure = await ScriptedJob.make(folder, do=do, at=phase).failure(pool, timeout_s=0.2)

    assert failure.category == "timeout"
    assert not failure.retryable
    assert pool.metrics.stops["timed_out"] == before + 1


@ON_BOTH_LOOPS
@pytest.mark.parametrize("phase", UNFINISHED)
@pytest.mark.parametrize("do", CRASHES)
async def test_a_lost_worker_fails_its_job_and_no_other(
    tmp_path: Path, do: str, phase: str
) -> None:
    async with open_pool(start_method="forkserver", retries=0) as pool:
        await _loses(pool, tmp_path, do, phase)
        await ScriptedJob.make(tmp_path).run(pool)


@ON_BOTH_LOOPS
@pytest.mark.parametrize("phase", UNFINISHED)
async def test_one_lost_worker_after_another_leaves_the_pool_at_work(
    tmp_path: Path, phase: str
) -> None:
    """The same table on spawned processes, in one pool."""
    async with open_pool(start_method="spawn", retries=0) as pool:
        for do in CRASHES:
            await _loses(pool, tmp_path, do, phase)
        await ScriptedJob.make(tmp_path).run(pool)


@ON_BOTH_LOOPS
@pytest.mark.parametrize("phase", UNFINISHED)
@pytest.mark.parametrize("do", ["hang", "hang_gil"])
async def test_a_worker_that_hangs_is_stopped_at_the_limit(
    tmp_path: Path, do: str, phase: str
) -> None:
    async with open_pool(start_method="forkserver") as pool:
        await _hangs(pool, tmp_path, do, phase)
        await ScriptedJob.make(tmp_path).run(pool)


@ON_BOTH_LOOPS
@pytest.mark.parametrize("do", ["hang", "hang_gil"])
async def test_one_hanging_worker_after_another_leaves_the_pool_at_work(
    tmp_path: Path, do: str
) -> None:
    """The same on spawned processes, in one pool."""
    async with open_pool(start_method="spawn") as pool:
        for phase in UNFINISHED:
            await _hangs(pool, tmp_path, do, phase)
        await ScriptedJob.make(tmp_path).run(pool)


@STARTS
@ON_BOTH_LOOPS
@pytest.mark.parametrize("do", CRASHES)
async def test_a_job_that_was_done_stays_done(
    tmp_path: Path, start_method: StartMethod, do: str
) -> None:
    """The next job waits already and goes to the worker that is about to die."""
    done = ScriptedJob.make(tmp_path, do=do, at="after_done")
    following = ScriptedJob.make(tmp_path)
    async with open_pool(start_method=start_method) as pool:
        first, second = done.begin(pool), following.begin(pool)

        assert done.folder.result_file(await first).read_bytes() == scriptable_child.REPLY
        await second
        assert pool.metrics.total_tasks == 2


@STARTS
@ON_BOTH_LOOPS
@pytest.mark.parametrize("phase", ["before_ack", "after_rename"])
async def test_a_worker_that_sends_something_else_is_stopped(
    tmp_path: Path, start_method: StartMethod, phase: str
) -> None:
    async with open_pool(start_method=start_method, retries=0) as pool:
        for count, do in enumerate(scriptable_child.WIRE, 1):
            failure = await ScriptedJob.make(tmp_path, do=do, at=phase).failure(pool)

            assert (failure.category, failure.retryable) == ("internal", True)
            assert "something unreadable" in failure.message
            assert pool.metrics.stops["protocol"] == count
        await ScriptedJob.make(tmp_path).run(pool)


@STARTS
@ON_BOTH_LOOPS
async def test_a_worker_that_closes_its_channel_and_lives_on_is_stopped(
    tmp_path: Path, start_method: StartMethod
) -> None:
    async with open_pool(start_method=start_method, retries=0) as pool:
        lost = ScriptedJob.make(tmp_path, do=scriptable_child.TORN_PIPE)
        failure = await lost.failure(pool)

        assert (failure.category, failure.retryable) == ("internal", True)
        assert "closed its connection" in failure.message
        assert pool.metrics.stops == {"pipe_lost": 1}
        assert has_ended(lost.pid)
        await ScriptedJob.make(tmp_path).run(pool)


@ON_UVLOOP
@pytest.mark.parametrize("reason", [CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY])
async def test_a_worker_that_ran_out_of_memory_is_replaced_and_its_job_tried_again(
    tmp_path: Path, reason: str
) -> None:
    job = ScriptedJob.make(tmp_path, do="fail", times=1, reason=reason)
    following = ScriptedJob.make(tmp_path)
    async with open_pool(idle_timeout_s=60.0) as pool:
        first, second = job.begin(pool), following.begin(pool)
        await asyncio.wait({first, second})

        assert first.exception() is None
        assert second.exception() is None
        await until(lambda: pool.metrics.stops)  # its worker may end after the job was tried again
        assert pool.metrics.stops == {"out_of_memory": 1}
        assert pool.metrics.losses == {}
        assert pool.metrics.retries == 1


@ON_UVLOOP
@pytest.mark.parametrize(
    "options",
    [
        {"body": "../elsewhere"},
        {"body": "/etc/hostname"},
        {"body": "missing"},
        {"body": "input"},
        {"body": "input/0"},
        {"body": ".."},
        {"body": ""},
        {"link": "/etc/hostname"},
        {"link": "job.json"},
    ],
)
async def test_a_worker_cannot_hand_back_any_file_it_likes(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    (tmp_path / "elsewhere").write_text("of somebody else")
    async with open_pool() as pool:
        failure = await ScriptedJob.make(tmp_path, **options).failure(pool)

        assert failure.category == "internal"
        assert pool.metrics.stops["protocol"] == 1
        await ScriptedJob.make(tmp_path).run(pool)


@ON_UVLOOP
async def test_a_failure_that_a_worker_reports_costs_no_worker(tmp_path: Path) -> None:
    failing, following = ScriptedJob.make(tmp_path, do="fail"), ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        first, second = failing.begin(pool), following.begin(pool)
        await asyncio.wait({first, second})

        assert "The script said so." in str(first.exception())
        assert second.exception() is None
        assert failing.pid == following.pid


@ON_UVLOOP
async def test_news_of_another_job_changes_nothing(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, stale=True)
    async with open_pool(idle_timeout_s=60.0) as pool:
        await job.run(pool)

        (worker,) = pool.workers()
        assert (worker.state, worker.jobs_done, worker.holds_models) == ("standby", 1, False)


# ---- another try ---------------------------------------------------------------------------------


@STARTS
@ON_BOTH_LOOPS
async def test_a_job_whose_worker_was_lost_is_tried_again(
    tmp_path: Path, start_method: StartMethod
) -> None:
    job = ScriptedJob.make(tmp_path, do="sigkill_self", times=1)
    async with open_pool(start_method=start_method) as pool:
        await job.run(pool)

        assert pool.metrics.losses == {"SIGKILL": 1}
        assert pool.metrics.total_tasks == 1


@ON_UVLOOP
async def test_a_job_that_is_tried_again_goes_before_those_that_wait(tmp_path: Path) -> None:
    gate, starts = Gate(tmp_path), list[ScriptedJob]()
    tried_again = gate.job(tmp_path, do="exit_3", times=1)
    tried_again.starts = starts
    waiting = ScriptedJob.make(tmp_path)
    async with open_pool() as pool:
        first = tried_again.begin(pool)
        await tried_again.started.wait()
        second = await waiting.begin_in_line(pool, starts)
        gate.open()
        await asyncio.gather(first, second)

        assert starts == [tried_again, tried_again, waiting]


@ON_UVLOOP
async def test_after_its_tries_the_failure_says_how_many(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="segfault", say="last words")
    async with open_pool(retries=2) as pool:
        failure = await job.failure(pool)

        assert failure.details["attempts"] == "3"
        assert failure.details["worker_log"].splitlines()[-1] == "last words"
        assert pool.metrics.losses == {"SIGSEGV": 3}


@ON_UVLOOP
async def test_a_request_that_took_two_workers_down_is_refused(tmp_path: Path) -> None:
    async with open_pool() as pool:
        await ScriptedJob.make(tmp_path, do="segfault").failure(pool)
        again = await ScriptedJob.make(tmp_path, do="segfault").failure(pool)

        assert again == REFUSED
        assert pool.metrics.losses == {"SIGSEGV": 2}
        await ScriptedJob.make(tmp_path).run(pool)


@ON_UVLOOP
async def test_a_failure_that_a_worker_reports_is_not_tried_again(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="fail")
    async with open_pool() as pool:
        await job.failure(pool)

        assert job.attempts == 1


@ON_UVLOOP
async def test_a_job_that_was_stopped_at_its_limit_is_not_tried_again(tmp_path: Path) -> None:
    async with open_pool() as pool:
        job, _, _ = await stopped_at_its_limit(
            pool, lambda: ScriptedJob.make(tmp_path, do="hang"), lambda job: job.attempts
        )

        assert job.attempts == 1


# ---- what is left behind -------------------------------------------------------------------------


@STARTS
@ON_BOTH_LOOPS
async def test_what_a_document_started_does_not_outlive_its_worker(
    tmp_path: Path, start_method: StartMethod
) -> None:
    job = ScriptedJob.make(tmp_path, do="sigkill_self", grandchild=True)
    async with open_pool(start_method=start_method, retries=0) as pool:
        await job.failure(pool)

        assert has_ended(job.pid)
        assert has_ended(job.facts["grandchild"])


@STARTS
@ON_BOTH_LOOPS
async def test_what_a_document_started_does_not_outlive_the_limit_of_its_job(
    tmp_path: Path, start_method: StartMethod
) -> None:
    async with open_pool(start_method=start_method, retries=0) as pool:
        job, _, _ = await stopped_at_its_limit(
            pool,
            lambda: ScriptedJob.make(tmp_path, do="hang", grandchild=True),
            lambda job: job.facts,
        )

        assert has_ended(job.pid)
        assert has_ended(job.facts["grandchild"])


@dataclass(frozen=True)
class Orphans:
    """What a server that was killed has left to end by itself."""

    worker: int
    grandchild: int
    others: set[int]


@contextmanager
def _killed_server(folder: Path, start_method: str, do: str) -> Iterator[Orphans]:
    """Kill a server with SIGKILL while a job of its hangs."""
    server = subprocess.Popen(
        python("-m", "tests.faults.lonely_server", start_method, do, str(folder)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        worker, grandchild = (int(word) for word in server.stdout.readline().split())
        below = {process.pid for process in psutil.Process(server.pid).children(recursive=True)}
        assert {worker, grandchild} <= below
        assert not has_ended(worker, within_s=0)
        server.kill()
        server.wait(30)
        try:
            yield Orphans(worker, grandchild, below - {worker, grandchild})
        finally:
            for pid in below:
                if not has_ended(pid, within_s=0):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize("do", ["hang", "hang_gil"])
def test_workers_die_with_their_server(tmp_path: Path, start_method: str, do: str) -> None:
    """And what their documents started, and whatever else served them."""
    with _killed_server(tmp_path, start_method, do) as orphans:
        assert has_ended(orphans.worker)
        assert has_ended(orphans.grandchild)
        assert [pid for pid in orphans.others if not has_ended(pid)] == []
