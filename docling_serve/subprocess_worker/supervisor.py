"""The single writer of the pool: events come in, ``scheduling.decide`` decides, effects follow.

Everything runs on one event loop. A worker or a job reports an event by a plain call; the next
round of :meth:`Supervisor._step` looks at the whole picture and acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docling_serve.errors import Failure, TaskFailed, TaskTimedOut
from docling_serve.jobs import JobProgress, JobResult, TaskFolder
from docling_serve.subprocess_worker import scheduling
from docling_serve.subprocess_worker.config import WorkerPoolConfig
from docling_serve.subprocess_worker.exits import describe_exit
from docling_serve.subprocess_worker.memory import DeviceMemory
from docling_serve.subprocess_worker.messages import (
    CallbackDue,
    Done,
    Failed,
    FromWorker,
    Progressed,
    Started,
)
from docling_serve.subprocess_worker.metrics import SubprocessMetrics
from docling_serve.subprocess_worker.starter import Starter
from docling_serve.subprocess_worker.states import StopReason, WorkerState
from docling_serve.subprocess_worker.worker import Worker

_log = logging.getLogger(__name__)

_LOADING_PHASE = "initialize"  # docling's ConversionPhase.INITIALIZE
_MAX_START_FAILURES = 3
_MAX_BACKOFF_S = 30.0


@dataclass(eq=False)
class Job:
    """One attempt of a task, from hand-over to its future's end."""

    number: int
    task_id: str
    folder: TaskFolder
    timeout_s: float
    future: asyncio.Future[JobResult]
    on_started: Callable[[], None]
    on_progress: Callable[[JobProgress], None]
    on_callback: Callable[[dict[str, Any]], None]
    submitted: float = field(default_factory=time.monotonic)
    worker: Worker | None = None
    timer: asyncio.TimerHandle | None = None
    last_progress: JobProgress | None = None
    verdict: TaskFailed | None = None


class Supervisor:
    """Owns the jobs that wait, the jobs that run, and every worker."""

    def __init__(
        self,
        config: WorkerPoolConfig,
        starter: Starter,
        device: DeviceMemory,
        metrics: SubprocessMetrics,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.workers: dict[int, Worker] = {}
        self._starter = starter
        self._device = device
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._draining = False
        self._start_failures = 0
        self._no_start_before = 0.0
        self._step_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    # ---- commands -------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue ``job``; its future ends with a result or a :class:`TaskFailed`."""
        self._waiting.append(job)
        self.wake()

    def next_number(self) -> int:
        """A number no job or worker of this pool had before."""
        self._numbers += 1
        return self._numbers

    def cancel(self, job: Job) -> None:
        """Take a waiting job out of the queue, or stop the worker of a running one."""
        if job in self._waiting:
            self._waiting.remove(job)
        elif job.worker is not None:
            job.verdict = TaskFailed(describe_exit(None, StopReason.CANCELLED))
            job.worker.stop(StopReason.CANCELLED, ask=False)

    def clear(self) -> None:
        """Give up every worker that holds models, each as soon as it has no job."""
        for worker in self.workers.values():
            if worker.holds_models or worker.state is WorkerState.LOADING:
                worker.give_up = StopReason.CLEARED
        self.wake()

    def drain(self) -> None:
        """Start nothing more; jobs that run may finish."""
        self._draining = True
        while self._waiting:
            self._fail(self._waiting.popleft(), StopReason.SHUTDOWN)
        self.wake()

    def stop_all(self, reason: StopReason, *, ask: bool) -> None:
        """Stop every worker, busy or not."""
        self._draining = True
        for worker in list(self.workers.values()):
            worker.stop(reason, ask=ask and worker.number not in self._jobs_by_worker())

    def kill_all(self) -> None:
        """SIGKILL every worker's group, waiting for nothing."""
        for worker in self.workers.values():
            worker.kill_now()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for ``condition``, looked at after each change of a worker."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def all_gone(self) -> None:
        """Wait until no worker is left."""
        while self._lives:
            await asyncio.wait(self._lives)

    # ---- events ---------------------------------------------------------------------------

    def on_moved(self, worker: Worker) -> None:
        """A worker changed its state."""
        if worker.state is WorkerState.STANDBY:
            self._start_failures = 0
        if worker.state in (WorkerState.RELEASING, WorkerState.LOST):
            self._lost_its_job(worker)
        if worker.state is WorkerState.RELEASING and worker.reason is StopReason.START_FAILED:
            self._start_failed()
        if worker.state is WorkerState.STOPPED:
            self.workers.pop(worker.number, None)
            self.metrics.workers_stopped += 1
        self.wake()

    def on_message(self, worker: Worker, message: FromWorker) -> None:
        """A worker reported about its job; news of another job is stale and dropped."""
        job = self._running.get(getattr(message, "job", 0))
        if job is None or job.worker is not worker:
            _log.warning("worker %d: stale %s message dropped", worker.number, message.kind)
            return
        if isinstance(message, Started):
            job.on_started()
        elif isinstance(message, Progressed):
            self._progressed(worker, job, message)
        elif isinstance(message, CallbackDue):
            job.on_callback(message.payload)
        elif isinstance(message, Done):
            self._done(worker, job, message)
        elif isinstance(message, Failed):
            failure = Failure(
                message.category, message.message, message.retryable, message.phase, message.details
            )
            self._settle(job, TaskFailed(failure))
            worker.finished(message.holds_models)

    # ---- effects --------------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the picture again, once, after the events of this moment."""
        if not self._step_due:
            self._step_due = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._step_due = False
        self._changed.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        wake_at: list[float] = []
        for decision in scheduling.decide(self._view(now), self.config):
            if isinstance(decision, scheduling.Assign):
                self._assign(self.workers[decision.worker], self._waiting.popleft())
            elif isinstance(decision, scheduling.Start):
                self._start_worker()
            elif isinstance(decision, scheduling.Retire):
                self.workers[decision.worker].stop(decision.reason)
            else:
                wake_at.append(decision.when)
        if wake_at:
            delay = max(0.0, min(wake_at) - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self.wake)

    def _view(self, now: float) -> scheduling.PoolView:
        views = [
            scheduling.WorkerView(
                number=worker.number,
                state=worker.state,
                since=worker.since,
                jobs_done=worker.jobs_done,
                holds_models=worker.holds_models,
                give_up=worker.give_up,
            )
            for worker in self.workers.values()
        ]
        return scheduling.PoolView(
            now, len(self._waiting), views, self._draining, self._no_start_before
        )

    def _start_worker(self) -> None:
        worker = Worker(self.next_number(), self.config, self._starter, self, self._device)
        self.workers[worker.number] = worker
        self.metrics.workers_started += 1
        life = asyncio.create_task(worker.live())
        self._lives.add(life)
        life.add_done_callback(self._life_over)

    def _life_over(self, life: asyncio.Task[None]) -> None:
        self._lives.discard(life)
        if not life.cancelled() and (error := life.exception()) is not None:
            _log.error("a worker's supervision failed", exc_info=error)

    def _assign(self, worker: Worker, job: Job) -> None:
        job.worker = worker
        self._running[job.number] = job
        loop = asyncio.get_running_loop()
        job.timer = loop.call_later(job.timeout_s, self._time_out, job)
        _log.info("task %s: given to worker %d (pid %s)", job.task_id, worker.number, worker.pid)
        worker.run(job.number, str(job.folder.root))

    def _progressed(self, worker: Worker, job: Job, message: Progressed) -> None:
        job.last_progress = message.progress
        if message.progress.phase == _LOADING_PHASE:
            worker.loading(message.holds_models)
        else:
            worker.converting(message.holds_models)
        job.on_progress(message.progress)

    def _done(self, worker: Worker, job: Job, message: Done) -> None:
        try:
            job.folder.result_file(message.result)
        except ValueError as exc:
            _log.error("task %s: worker %d: %s", job.task_id, worker.number, exc)
            self._settle(job, TaskFailed(describe_exit(None, StopReason.PROTOCOL)))
            worker.stop(StopReason.PROTOCOL, ask=False)
            return
        self.metrics.record(time.monotonic() - job.submitted, message.result.processing_time)
        self._settle(job, message.result)
        worker.finished(message.holds_models)

    def _time_out(self, job: Job) -> None:
        pages = job.last_progress.completed_pages if job.last_progress else 0
        total = job.last_progress.total_pages if job.last_progress else 0
        job.verdict = TaskTimedOut(
            Failure(
                "timeout",
                f"The task was stopped at its limit of {job.timeout_s:g} s "
                f"(subprocess_timeout) after {pages} of {total or 'unknown'} pages.",
                retryable=False,
                details={"limit": "subprocess_timeout", "pages": str(pages)},
            )
        )
        if job.worker is not None:
            job.worker.stop(StopReason.TIMED_OUT, ask=False)

    def _lost_its_job(self, worker: Worker) -> None:
        job = self._jobs_by_worker().get(worker.number)
        if job is not None:
            failure = describe_exit(worker.exit_code, worker.reason)
            self._settle(job, job.verdict or TaskFailed(failure))

    def _jobs_by_worker(self) -> dict[int, Job]:
        return {job.worker.number: job for job in self._running.values() if job.worker}

    def _settle(self, job: Job, outcome: JobResult | TaskFailed) -> None:
        self._running.pop(job.number, None)
        if job.timer is not None:
            job.timer.cancel()
        if job.future.done():
            return
        if isinstance(outcome, TaskFailed):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)

    def _fail(self, job: Job, reason: StopReason) -> None:
        self._settle(job, TaskFailed(describe_exit(None, reason)))

    def _start_failed(self) -> None:
        """Back off, and after several failures in a row tell those who wait."""
        self._start_failures += 1
        backoff = min(_MAX_BACKOFF_S, 0.5 * 2.0**self._start_failures)
        self._no_start_before = time.monotonic() + backoff
        if self._start_failures >= _MAX_START_FAILURES:
            while self._waiting:
                self._fail(self._waiting.popleft(), StopReason.START_FAILED)


def job_folder(path: str | Path) -> TaskFolder:
    """The folder at ``path``, made if it is missing."""
    folder = TaskFolder(Path(path))
    with contextlib.suppress(FileExistsError):
        folder.root.mkdir(mode=0o700, parents=True)
    return folder
