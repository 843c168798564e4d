"""Pools of scripted workers, and the jobs they are given."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import Failure, TaskFailed
from docling_serve.jobs.run_request import Listeners
from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.jobs.stages import Stage
from docling_serve.subprocess_worker import SubprocessWorkerPool, WorkerPoolConfig
from docling_serve.subprocess_worker.pool.admission import (
    Admission,
    AdmissionCounters,
    NoDevice,
    OnWait,
)
from docling_serve.subprocess_worker.pool.starter import ChildMain, Starter
from docling_serve.subprocess_worker.pool.stopping import Rung
from tests.helpers import scriptable_child
from tests.helpers.eventually import longer_and_longer
from tests.helpers.loops import PATIENCE_S, until
from tests.helpers.process_ends import has_ended

_numbers = itertools.count(1)


class HeldGrant(NoDevice):
    """A stand-in for a grant on a GPU, whose memory is free again once ``back`` is set."""

    def __init__(self) -> None:
        self.back = asyncio.Event()
        self.waited_for = asyncio.Event()
        self.given_back = False

    async def released(self) -> None:
        """Wait for ``back``."""
        self.waited_for.set()
        await self.back.wait()

    def give_back(self) -> None:
        """Nothing waits."""
        self.given_back = True


class GrantsOf:
    """Admits every job with one and the same grant; ``kinds`` are those that asked."""

    def __init__(self, grant: HeldGrant) -> None:
        self.counters = AdmissionCounters()
        self.shares_devices = False
        self.grant = grant
        self.kinds: list[str] = []

    def begin(self) -> None:
        """Nothing to find out."""

    async def admit(self, kind: str, on_wait: OnWait = lambda _: None) -> HeldGrant:  # noqa: ARG002
        """At once."""
        self.kinds.append(kind)
        return self.grant

    def close(self) -> None:
        """Nothing to stop."""


def pool_config(**limits: Any) -> WorkerPoolConfig:
    """Limits that are short where a test has to wait for them. Workers are forked unless a test
    says otherwise: that takes milliseconds."""
    return WorkerPoolConfig(
        **{
            "start_method": "forkserver",
            "start_timeout_s": 120.0,
            "start_backoff_s": 0.01,
            "stop_grace_s": 30.0,
            "term_grace_s": 0.2,
            "kill_wait_s": 30.0,
            **limits,
        }
    )


@contextlib.asynccontextmanager
async def open_pool(
    *,
    main: ChildMain = scriptable_child.main,
    admission: Admission | None = None,
    **limits: Any,
) -> AsyncIterator[SubprocessWorkerPool]:
    """A pool of scripted workers, closed at the end."""
    config = pool_config(**limits)
    pool = SubprocessWorkerPool(config=config, starter=Starter(config, main), admission=admission)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), PATIENCE_S)
        finally:
            pool.kill_all()


@dataclass
class ScriptedJob:
    """A job, and what the pool said of it."""

    folder: TaskFolder
    started: asyncio.Event = field(default_factory=asyncio.Event)
    introduced: asyncio.Event = field(default_factory=asyncio.Event)
    progressed: asyncio.Event = field(default_factory=asyncio.Event)
    facts: dict[str, int] = field(default_factory=dict)
    #: Where it waited before a worker had it, other than in the queue.
    stages: list[Stage] = field(default_factory=list)
    progress: list[JobProgress] = field(default_factory=list)
    #: Gets this job whenever an attempt starts.
    starts: list[ScriptedJob] = field(default_factory=list, repr=False)

    @classmethod
    def make(cls, parent: Path, **options: Any) -> ScriptedJob:
        """Write the job that ``options`` describe into a folder of its own."""
        task_id = f"job-{next(_numbers)}"
        folder = TaskFolder.create(parent, task_id)
        tally = {"tally": str(folder.root / "attempts")}
        spec = JobSpec(task_id=task_id, sources=[], options=options, converter_config=tally)
        folder.write_job(spec)
        return cls(folder)

    @property
    def pid(self) -> int:
        """The worker that has the job."""
        return self.facts["pid"]

    @property
    def attempts(self) -> int:
        """How often a worker has begun it."""
        tally = self.folder.root / "attempts"
        return len(tally.read_text()) if tally.exists() else 0

    async def run(
        self, pool: SubprocessWorkerPool, timeout_s: float = 120.0, *, goes_on: bool = False
    ) -> JobResult:
        """Give it to ``pool`` and wait for its end."""
        return await pool.run(
            self.folder,
            self.folder.root.name,
            timeout_s,
            goes_on=goes_on,
            listeners=Listeners(self._start, self._note, self._introduce, self.stages.append),
        )

    def begin(
        self, pool: SubprocessWorkerPool, timeout_s: float = 120.0
    ) -> asyncio.Task[JobResult]:
        """Give it to ``pool`` and do not wait."""
        return asyncio.ensure_future(self.run(pool, timeout_s))

    async def begin_in_line(
        self, pool: SubprocessWorkerPool, starts: list[ScriptedJob]
    ) -> asyncio.Task[JobResult]:
        """Give it to ``pool`` and wait until it is queued; ``starts`` gets it when it starts.

        Handing a job over takes a thread, so jobs begun at once may be queued in another order.
        """
        self.starts = starts
        behind = pool.snapshot().waiting + 1
        running = self.begin(pool)
        await until(lambda: pool.snapshot().waiting == behind)
        return running

    async def failure(self, pool: SubprocessWorkerPool, timeout_s: float = 120.0) -> Failure:
        """Give it to ``pool``; how it fails."""
        try:
            result = await self.run(pool, timeout_s)
        except TaskFailed as exc:
            return exc.failure
        raise AssertionError(f"the job succeeded: {result}")

    def _start(self) -> None:
        self.starts.append(self)
        self.started.set()

    def _note(self, progress: JobProgress) -> None:
        self.progress.append(progress)
        self.progressed.set()

    def _introduce(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.introduced.set()


async def climbed_in_vain(*_: object, **__: object) -> Rung:
    """A ladder that ends at a process asleep in a driver, which no test can make."""
    return Rung.SURVIVED


KEPT: dict[str, Any] = {"idle_timeout_s": 60.0}


async def stopped_at_its_limit(
    pool: SubprocessWorkerPool,
    make: Callable[[], ScriptedJob],
    at_work: Callable[[ScriptedJob], object],
) -> tuple[ScriptedJob, TaskFailed, float]:
    """A job from ``make`` that was ``at_work`` when it was stopped at its time limit, how it
    failed, and the limit in seconds."""
    limits = longer_and_longer()
    while True:
        job, limit_s = make(), next(limits)
        with pytest.raises(TaskFailed) as stopped:
            await job.run(pool, limit_s)
        if at_work(job):
            return job, stopped.value, limit_s


class Gate:
    """Holds jobs up until it is opened, and lets through who comes later. A locked file, so nobody
    polls."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        self._file = self.path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def job(self, folder: Path, **options: Any) -> ScriptedJob:
        """A job that waits at this gate."""
        return ScriptedJob.make(folder, wait_for=str(self.path), **options)

    def open(self) -> None:
        """Let through who waits. Call it once."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


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
