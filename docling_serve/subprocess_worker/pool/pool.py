"""The entry point: run a job in a worker process and wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from docling_serve.errors import SHUT_DOWN, ShuttingDown, TaskFailed
from docling_serve.internals import fork_server
from docling_serve.jobs.needs import needs_network
from docling_serve.jobs.run_request import NO_LISTENERS, Listeners
from docling_serve.jobs.spec import JobResult, JobSpec, TaskFolder
from docling_serve.jobs.writing import finish_in_thread
from docling_serve.process.guardian import Guardian
from docling_serve.subprocess_worker.pool.admission import Admission, AdmitAll
from docling_serve.subprocess_worker.pool.job import Job
from docling_serve.subprocess_worker.pool.job_folders import HandOver
from docling_serve.subprocess_worker.pool.losses import REFUSED
from docling_serve.subprocess_worker.pool.metrics import SubprocessMetrics
from docling_serve.subprocess_worker.pool.snapshot import (
    PoolSnapshot,
    TemplateSnapshot,
    WorkerSnapshot,
)
from docling_serve.subprocess_worker.pool.starter import Starter
from docling_serve.subprocess_worker.pool.states import HAS_A_JOB, StopReason, WorkerState
from docling_serve.subprocess_worker.pool.supervisor import Supervisor
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

DEFAULT_TIMEOUT_S = 600.0


class SubprocessWorkerPool:
    """Worker processes that run jobs, at most ``max_workers`` at a time.

    Create it anywhere; use it from one event loop. Without ``config`` a pool has the defaults of
    :class:`WorkerPoolConfig`.
    """

    def __init__(
        self,
        max_workers: int = 1,
        *,
        config: WorkerPoolConfig | None = None,
        starter: Starter | None = None,
        admission: Admission | None = None,
        guardian: Guardian | None = None,
    ) -> None:
        self.config = config or WorkerPoolConfig(max_workers=max_workers)
        self.metrics = SubprocessMetrics()
        self._starter = starter or Starter(self.config, guardian=guardian)
        self._admission = admission or AdmitAll()
        self._supervisor: Supervisor | None = None
        self._closed = False
        self._over = False
        self._handing_over = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether it takes no more tasks."""
        return self._closed

    def work_in(self, folder: Path) -> None:
        """Put the folders of workers below ``folder``, which is emptied. Call before starting."""
        self._starter.folders.use(folder)

    async def start(self) -> None:
        """Get ready, and start the configured number of standby processes."""
        self._admission.begin()
        await self._starter.prepare()
        self._live().wake()

    async def prewarm(self, count: int | None = None) -> None:
        """Keep ``count`` standby processes (default: as configured, at least one) and wait until
        they have done their imports. They hold no GPU memory."""
        supervisor = self._live()
        count = max(1, self.config.prewarm) if count is None else count
        self.config = replace(self.config, prewarm=count)
        supervisor.config = self.config
        supervisor.wake()
        await supervisor.until(
            lambda: (
                sum(w.state is WorkerState.STANDBY for w in supervisor.workers.values()) >= count
            )
        )

    async def run(
        self,
        folder: TaskFolder,
        task_id: str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        light: bool = False,
        kind: str = "",
        goes_on: bool = False,
        timeout_setting: str = "subprocess_timeout",
        listeners: Listeners = NO_LISTENERS,
        spec: JobSpec | None = None,
    ) -> JobResult:
        """Run the job whose ``job.json`` is in ``folder``; wait for a worker if need be. ``spec``
        is the content of that file, if the caller has it.

        Cancelling the call takes the job out of the queue, or stops its worker. The time limit
        counts from the hand-over to a worker, excludes time in the queue, and starts again for a
        second attempt. A ``light`` job needs no models and may run in addition to the others;
        ``kind`` is equal for jobs that need the same models. With ``goes_on`` the job continues a
        task under way, inside :meth:`more_coming`, and is accepted while the pool drains.
        ``timeout_setting`` is named when the limit is reached.

        Raises:
            TaskFailed: the job ended without a reply; the failure says why.
            TaskTimedOut: it was stopped at ``timeout_s``.
            ShuttingDown: the pool is closed.
        """
        supervisor = self._live(goes_on=goes_on)
        await _refuse_poison(supervisor, folder)
        number = supervisor.next_number()
        hand_over, given = await self._hand_over(number, folder, spec, goes_on=goes_on)
        job = Job(
            number=number,
            hand_over=hand_over,
            network=needs_network(given, light=light),
            task_id=task_id,
            folder=folder,
            timeout_s=timeout_s,
            stall_s=self.config.stall_timeout_s,
            light=light and self.config.light_workers > 0,
            kind=kind,
            goes_on=goes_on,
            timeout_setting=timeout_setting,
            future=asyncio.get_running_loop().create_future(),
            listeners=listeners,
        )
        try:
            _submit(supervisor, job)
            result = await asyncio.shield(job.future)
            return await finish_in_thread(hand_over.bring_back, result, folder)
        except asyncio.CancelledError:
            supervisor.cancel(job)
            with contextlib.suppress(TaskFailed):
                await job.future  # its files are the worker's until the worker is gone
            raise
        finally:
            if not hand_over.is_removed:
                await finish_in_thread(hand_over.remove)

    @contextlib.contextmanager
    def more_coming(self) -> Iterator[None]:
        """Keep idle workers meanwhile: a task in parts will submit more jobs."""
        supervisor = self._live()
        supervisor.tasks_in_parts += 1
        try:
            yield
        finally:
            supervisor.tasks_in_parts -= 1
            supervisor.wake()

    async def clear(self) -> None:
        """Drop all models, idle workers now, busy ones after their job; one that cannot rest
        ends."""
        self._live().clear()

    def stop_worker(self, number: int) -> bool:
        """End a worker now, and cancel its job; False if there is no such worker."""
        worker = self._supervisor.workers.get(number) if self._supervisor is not None else None
        if worker is None:
            return False
        has_job = worker.state in HAS_A_JOB
        worker.stop(StopReason.CANCELLED if has_job else StopReason.CLEARED, ask=not has_job)
        return True

    def snapshot(self) -> PoolSnapshot:
        """The pool as it is now, for information only: no decision depends on it."""
        template = TemplateSnapshot.of(self._starter.template_pid)
        if self._supervisor is None:
            return PoolSnapshot(start_method=self._starter.start_method, template=template)
        return replace(self._supervisor.snapshot(self._starter.start_method), template=template)

    def workers(self) -> list[WorkerSnapshot]:
        """All workers that are not gone."""
        return self.snapshot().workers

    def describe(self) -> dict[str, Any]:
        """The snapshot and the metrics as plain data."""
        snapshot = self.snapshot()
        for worker in snapshot.workers:
            self.metrics.note_peak(worker.peak_rss_bytes, worker.peak_vram_bytes)
        return {
            **asdict(snapshot),
            "by_state": snapshot.by_state(),
            "metrics": self.metrics.as_dict(),
            "admission": asdict(self._admission.counters),
        }

    def drain(self) -> None:
        """Refuse new tasks; running ones continue, including further jobs they are cut into."""
        self._closed = True
        if self._supervisor is not None:
            self._supervisor.drain()

    async def close(self, grace_s: float = 0.0) -> None:
        """End every worker; running jobs get ``grace_s`` seconds to finish first."""
        self._closed = True
        if self._supervisor is not None:
            self._supervisor.drain()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._supervisor.all_gone(), max(grace_s, 0.001))
            self._over = True
            self._supervisor.stop_all(StopReason.SHUTDOWN)
            await self._supervisor.all_gone()
        self._admission.close()
        async with self._handing_over:
            await finish_in_thread(self._starter.folders.close)
        self._starter.close()

    def kill_all(self) -> None:
        """SIGKILL every worker and its children, without waiting; none starts after that."""
        self._starter.kill_all()

    async def _hand_over(
        self, number: int, folder: TaskFolder, spec: JobSpec | None, *, goes_on: bool
    ) -> tuple[HandOver, JobSpec]:
        """Jobs are queued in the order of their arrival."""
        async with self._handing_over:
            if self._over or (self._closed and not goes_on):
                raise TaskFailed(SHUT_DOWN)
            folders = self._starter.folders
            try:
                return await finish_in_thread(folders.hand_over, number, folder, spec)
            except (
                BaseException
            ):  # cancelled, or the disk is full: nothing else cleans up the hand-over
                await finish_in_thread(folders.drop, number)
                raise

    def _live(self, *, goes_on: bool = False) -> Supervisor:
        if self._over or (self._closed and not goes_on):
            raise ShuttingDown("the server is shutting down")
        if self._supervisor is None:
            self._supervisor = Supervisor(self.config, self._starter, self.metrics, self._admission)
        return self._supervisor


async def _refuse_poison(supervisor: Supervisor, folder: TaskFolder) -> None:
    poison = supervisor.losses.poison
    if bool(poison) and await asyncio.to_thread(poison.matches, folder):
        raise TaskFailed(REFUSED)


def _submit(supervisor: Supervisor, job: Job) -> None:
    """A job accepted before shutdown fails like those that wait at that time."""
    try:
        supervisor.submit(job)
    except ShuttingDown:
        raise TaskFailed(SHUT_DOWN) from None


class _Shared:
    """The pool of this process; a holder so that tests and shutdown can release it."""

    pool: SubprocessWorkerPool | None = None


def get_worker_pool(config: WorkerPoolConfig | None = None) -> SubprocessWorkerPool:
    """The pool of this process: in a server the server's own, else created by the first call."""
    if _Shared.pool is None:
        _Shared.pool = SubprocessWorkerPool(config=config)
    return _Shared.pool


def share_worker_pool(pool: SubprocessWorkerPool) -> None:
    """Make ``pool`` the one of this process."""
    _Shared.pool = pool


async def close_worker_pool(
    grace_s: float = 0.0, *, pool: SubprocessWorkerPool | None = None
) -> None:
    """Close ``pool``, by default the pool of this process; the next call that needs one creates a
    new one."""
    pool = pool or _Shared.pool
    if pool is _Shared.pool:
        _Shared.pool = None
    if pool is not None:
        await pool.close(grace_s)
        await asyncio.to_thread(fork_server.stop)
