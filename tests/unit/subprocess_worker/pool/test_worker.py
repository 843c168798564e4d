"""The life of one worker: a real process, and an observer that writes everything down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from docling_serve.subprocess_worker.pool import worker as worker_module
from docling_serve.subprocess_worker.pool.admission import NO_DEVICE, Grant
from docling_serve.subprocess_worker.pool.starter import ChildMain, StartedProcess, Starter
from docling_serve.subprocess_worker.pool.states import StopReason, WorkerState
from docling_serve.subprocess_worker.pool.worker import Worker
from docling_serve.subprocess_worker.protocol.messages import Done, FromWorker, Run
from tests.helpers import scriptable_child
from tests.helpers.loops import ON_BOTH_LOOPS, PATIENCE_S
from tests.helpers.pools import HeldGrant, ScriptedJob, climbed_in_vain, pool_config
from tests.helpers.process_ends import has_ended

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    ON_BOTH_LOOPS,
]

S = WorkerState


@dataclass
class Recorder:
    """What a worker reported."""

    states: list[WorkerState] = field(default_factory=list)
    messages: list[FromWorker] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_message(self, worker: Worker, message: FromWorker) -> None:
        del worker
        self.messages.append(message)
        self.news.set()

    def on_moved(self, worker: Worker) -> None:
        self.states.append(worker.state)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def reach(self, state: WorkerState) -> None:
        await self.until(lambda: state in self.states)

    @property
    def done(self) -> bool:
        return any(isinstance(message, Done) for message in self.messages)


def give(worker: Worker, job: ScriptedJob) -> None:
    """Hand over ``job``, as number 5."""
    worker.run(
        Run(job=5, folder=str(job.folder.root), output=str(job.folder.root)), job.folder.root.name
    )


@contextlib.asynccontextmanager
async def born(
    main: ChildMain = scriptable_child.main,
    grant: Grant = NO_DEVICE,
    starter: Starter | None = None,
    **limits: Any,
) -> AsyncIterator[tuple[Worker, Recorder, asyncio.Task[None]]]:
    """A worker whose life has begun; whatever happens, its process is gone at the end."""
    config = pool_config(**limits)
    starter = starter or Starter(config, main)
    seen = Recorder()
    worker = Worker(1, config, starter, seen)
    worker.grant = grant
    life = asyncio.create_task(worker.live())
    try:
        yield worker, seen, life
    finally:
        if worker.pid is not None and not life.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            await asyncio.wait({life}, timeout=PATIENCE_S)
        starter.close()


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
async def test_a_life_from_start_to_end(start_method: str, tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path)
    async with born(start_method=start_method) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await seen.until(lambda: seen.done)
        worker.finished(holds_models=False)
        worker.stop(StopReason.IDLE)
        await life

        assert [message.kind for message in seen.messages] == [
            "started",
            "callback_due",
            "done",
        ]
        assert seen.states == [
            S.STANDBY,
            S.BUSY,
            S.STANDBY,
            S.STOPPING,
            S.RELEASING,
            S.STOPPED,
        ]
        assert (worker.reason, worker.exit_code, worker.jobs_done) == (StopReason.IDLE, 0, 1)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("do", "code"),
    [("exit_3", 3), ("segfault", -signal.SIGSEGV), ("sigkill_self", -signal.SIGKILL)],
)
async def test_an_end_that_nobody_asked_for(
    start_method: str, tmp_path: Path, do: str, code: int
) -> None:
    job = ScriptedJob.make(tmp_path, do=do)
    async with born(start_method=start_method) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await life

        assert seen.states == [S.STANDBY, S.BUSY, S.RELEASING, S.STOPPED]
        assert (worker.reason, worker.exit_code) == (StopReason.CRASHED, code)


async def test_a_result_sent_just_before_the_end_is_heard(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="sigkill_self", at="after_done")
    async with born() as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await life

        assert seen.done


async def test_a_worker_whose_imports_fail_never_gets_ready() -> None:
    async with born(scriptable_child.exits_at_start) as (worker, seen, life):
        await life

        assert seen.states == [S.RELEASING, S.STOPPED]
        assert worker.reason is StopReason.START_FAILED
        assert worker.exit_code == scriptable_child.EXIT_AT_START


async def test_a_worker_whose_imports_do_not_end_is_stopped() -> None:
    async with born(scriptable_child.never_ready, start_timeout_s=0.05) as (worker, seen, life):
        await life

        assert seen.states == [S.STOPPING, S.RELEASING, S.STOPPED]
        assert worker.reason is StopReason.START_FAILED


class CannotStart(Starter):
    """A machine that has no process left to give."""

    async def start(self, number: int) -> StartedProcess:
        del number
        raise OSError(11, "Resource temporarily unavailable")


async def test_a_process_that_cannot_be_made_is_a_failed_start() -> None:
    starter = CannotStart(pool_config())
    async with born(starter=starter) as (worker, seen, life):
        await life

        assert seen.states == [S.RELEASING, S.STOPPED]
        assert worker.reason is StopReason.START_FAILED
        assert worker.pid is None


@pytest.mark.parametrize("main", [scriptable_child.main, scriptable_child.never_ready])
@pytest.mark.parametrize("ask", [True, False])
async def test_a_worker_can_be_stopped_before_its_process_is_there(
    main: ChildMain, ask: bool
) -> None:
    limits: dict[str, Any] = {"stop_grace_s": 0.05, "start_timeout_s": 0.5}
    async with born(main, **limits) as (worker, seen, life):
        await asyncio.sleep(0)
        assert worker.pid is None
        worker.stop(StopReason.SHUTDOWN, ask=ask)
        ended, _ = await asyncio.wait({life}, timeout=PATIENCE_S)

        assert ended, "it was never ended"
        assert seen.states == [S.STOPPING, S.RELEASING, S.STOPPED]
        assert worker.reason is StopReason.SHUTDOWN


async def test_a_worker_that_does_not_listen_is_killed() -> None:
    limits: dict[str, Any] = {"stop_grace_s": 0.05, "term_grace_s": 0.05}
    async with born(scriptable_child.deaf, **limits) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        worker.stop(StopReason.IDLE)
        await life

        assert worker.exit_code == -signal.SIGKILL
        assert worker.reason is StopReason.IDLE


async def test_a_worker_that_outlives_its_kill_is_lost_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "stop", climbed_in_vain)
    async with born() as (worker, seen, life):
        await seen.reach(S.STANDBY)
        worker.stop(StopReason.SHUTDOWN, ask=False)
        await seen.reach(S.LOST)
        assert not life.done()
        worker.kill_now()
        await life

        assert seen.states == [S.STANDBY, S.STOPPING, S.LOST, S.RELEASING, S.STOPPED]
        assert worker.reason is StopReason.SHUTDOWN


async def test_stopping_twice_keeps_the_first_reason() -> None:
    async with born() as (worker, seen, life):
        await seen.reach(S.STANDBY)
        worker.stop(StopReason.IDLE)
        worker.stop(StopReason.SHUTDOWN, ask=False)
        await life
        worker.stop(StopReason.CANCELLED)

        assert seen.states.count(S.STOPPING) == 1
        assert worker.reason is StopReason.IDLE


@pytest.mark.parametrize("do", sorted(scriptable_child.WIRE))
async def test_a_broken_protocol_ends_the_worker(tmp_path: Path, do: str) -> None:
    job = ScriptedJob.make(tmp_path, do=do)
    async with born() as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await life

        assert worker.reason is StopReason.PROTOCOL
        assert seen.states[-3:] == [S.STOPPING, S.RELEASING, S.STOPPED]


async def test_memory_of_a_worker_with_models_is_waited_for(tmp_path: Path) -> None:
    grant = HeldGrant()
    job = ScriptedJob.make(tmp_path, holds_models=True)
    async with born(grant=grant) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await seen.until(lambda: seen.done)
        worker.finished(holds_models=True)
        worker.stop(StopReason.IDLE)
        await seen.reach(S.RELEASING)
        await grant.waited_for.wait()
        assert S.STOPPED not in seen.states
        grant.back.set()
        await life

        assert seen.states[-1] is S.STOPPED


@pytest.mark.parametrize("end", ["stopped", "crashed"])
async def test_a_worker_that_was_loading_may_hold_memory(tmp_path: Path, end: str) -> None:
    grant = HeldGrant()
    grant.back.set()
    job = ScriptedJob.make(tmp_path, loading=True, do="hang")
    async with born(grant=grant) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await seen.until(lambda: bool(seen.messages) and seen.messages[-1].kind == "progressed")
        worker.loading(holds_models=False)
        assert worker.state is S.LOADING
        if end == "stopped":
            worker.stop(StopReason.TIMED_OUT, ask=False)
        else:
            worker.kill_now()
        await life

        assert grant.waited_for.is_set()


async def test_memory_of_a_standby_worker_is_not_waited_for() -> None:
    grant = HeldGrant()  # whose memory never comes back
    async with born(grant=grant) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        worker.stop(StopReason.IDLE)
        await life

        assert (grant.waited_for.is_set(), grant.given_back) == (False, True)


async def test_a_start_that_cannot_be_watched_is_a_failed_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sandbox may forbid pidfd_open; whoever waits for a worker is then told."""

    def forbidden(pid: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    async with born() as (worker, seen, life):
        with pytest.raises(PermissionError):
            await life
        monkeypatch.undo()
        assert seen.states == [S.RELEASING, S.STOPPED]
        assert worker.reason is StopReason.START_FAILED
        assert worker.pid is not None
        assert has_ended(worker.pid)


async def test_a_job_passes_through_its_states(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="hang")
    async with born() as (worker, seen, life):
        await seen.reach(S.STANDBY)
        worker.converting(holds_models=False)  # no job: no change of state
        give(worker, job)
        worker.loading(holds_models=False)
        worker.loading(holds_models=False)
        worker.converting(holds_models=True)
        assert worker.holds_models
        worker.finished(holds_models=True)
        worker.stop(StopReason.SHUTDOWN, ask=False)
        await life

        assert seen.states[:5] == [S.STANDBY, S.BUSY, S.LOADING, S.BUSY, S.WARM]


async def test_an_illegal_move_is_refused() -> None:
    async with born() as (worker, seen, life):
        with pytest.raises(AssertionError, match="worker 1: starting to busy"):
            worker.run(Run(job=5, folder="/nowhere", output="/nowhere"), "task-5")
        await seen.reach(S.STANDBY)
        worker.stop(StopReason.SHUTDOWN)
        await life


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize("do", ["exit_3", "hang"])
async def test_what_a_document_started_is_gone_with_the_worker(
    start_method: str, tmp_path: Path, do: str
) -> None:
    job = ScriptedJob.make(tmp_path, do=do, grandchild=True)
    async with born(start_method=start_method) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        await seen.until(lambda: len(seen.messages) >= 2)
        worker.stop(StopReason.CANCELLED, ask=False)
        await life

        introduction = seen.messages[1]
        assert introduction.kind == "callback_due"
        assert has_ended(introduction.payload["grandchild"])


async def test_killing_at_once_needs_no_event_loop(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, do="hang", ignore_sigterm=True)
    async with born() as (worker, seen, life):
        worker.kill_now()  # nothing to kill yet
        await seen.reach(S.STANDBY)
        give(worker, job)
        await seen.until(lambda: len(seen.messages) >= 2)
        worker.kill_now()
        await life
        worker.kill_now()  # nothing to kill any more

        assert worker.exit_code == -signal.SIGKILL
        assert worker.reason is StopReason.CRASHED


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, None),
        ({"max_tasks": 2}, None),
        ({"max_tasks": 1}, StopReason.MAX_TASKS),
        ({"max_rss_bytes": 1}, StopReason.MAX_RSS),
        ({"max_rss_bytes": 2**50}, None),
        ({"max_growth_bytes": 2**50}, None),
    ],
)
async def test_limits_that_a_job_reached(
    tmp_path: Path, limits: dict[str, Any], reason: StopReason | None
) -> None:
    job = ScriptedJob.make(tmp_path)
    async with born(**limits) as (worker, seen, life):
        await seen.reach(S.STANDBY)
        give(worker, job)
        assert worker.spent(after_this_job=True) is (reason or worker.spent())
        await seen.until(lambda: seen.done)
        worker.finished(holds_models=False)
        assert worker.spent() is reason
        worker.stop(StopReason.SHUTDOWN)
        await life
