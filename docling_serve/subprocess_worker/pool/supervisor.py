"""The single writer of the pool: events arrive, ``scheduling.decide`` decides, effects follow.

Everything runs on one event loop. A worker or a job reports an event by a plain call; the next
round of :meth:`Supervisor._step` looks at the whole picture and acts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from docling_serve.errors import CUDA_OUT_OF_MEMORY, SHUT_DOWN, ShuttingDown, TaskFailed
from docling_serve.jobs.spec import JobResult
from docling_serve.jobs.stages import Stage
from docling_serve.subprocess_worker.pool import scheduling
from docling_serve.subprocess_worker.pool.admission import NO_DEVICE, Admission, Waiting
from docling_serve.subprocess_worker.pool.bookings import Bookings, make_room
from docling_serve.subprocess_worker.pool.exits import Ending
from docling_serve.subprocess_worker.pool.job import Job, WaitingJobs
from docling_serve.subprocess_worker.pool.losses import Losses, ran_out_of_memory
from docling_serve.subprocess_worker.pool.memory_sampler import MemorySampler
from docling_serve.subprocess_worker.pool.metrics import SubprocessMetrics
from docling_serve.subprocess_worker.pool.snapshot import PoolSnapshot, WorkerSnapshot
from docling_serve.subprocess_worker.pool.starter import StartBackoff, Starter
from docling_serve.subprocess_worker.pool.states import StopReason, WorkerState
from docling_serve.subprocess_worker.pool.worker import Worker
from docling_serve.subprocess_worker.protocol import messages
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

_log = logging.getLogger(__name__)

_LOADING_PHASE = "initialize"  # docling's ConversionPhase.INITIALIZE
_MAX_START_FAILURES = 3
_ENDED_SHOWN = 20


class Supervisor:
    """Owns the waiting jobs, the running jobs, and every worker."""

    def __init__(
        self,
        config: WorkerPoolConfig,
        starter: Starter,
        metrics: SubprocessMetrics,
        admission: Admission,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.workers: dict[int, Worker] = {}
        self.losses = Losses(metrics, config.retries)
        self._starter = starter
        self._bookings = Bookings(admission, self._answered, self._waits)
        self._waiting = WaitingJobs()
        self._running: dict[int, Job] = {}
        self._lives: dict[asyncio.Task[None], Worker] = {}
        self.tasks_in_parts = self._numbers = 0
        self._draining = self._closing = False
        self._backoff = StartBackoff(config.start_backoff_s)
        self._memory = MemorySampler(self._busy, config.memory_limit_bytes, self._over_memory)
        self._step_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._ended: deque[WorkerSnapshot] = deque(maxlen=_ENDED_SHOWN)

    def submit(self, job: Job) -> None:
        """Queue ``job``; its future gets a result or a :class:`TaskFailed`.

        Raises:
            ShuttingDown: jobs are no longer accepted.
        """
        if not self._takes(job):
            raise ShuttingDown("the server is shutting down")
        self._waiting.append(job)
        self.wake()

    def next_number(self) -> int:
        """A number that no job or worker of this pool has had."""
        self._numbers += 1
        return self._numbers

    def cancel(self, job: Job) -> None:
        """Take a waiting job out of its queue, or stop the worker of a running one."""
        if self._waiting.remove(job):
            job.settle(TaskFailed(Ending(None, StopReason.CANCELLED).failure()))
        else:
            self._stop_job(job, StopReason.CANCELLED)

    def clear(self) -> None:
        """Drop all models, each worker once it has no job; a worker that cannot rest is ended."""
        for worker in self.workers.values():
            if worker.holds_models or worker.state is WorkerState.LOADING:
                worker.give_up = StopReason.CLEARED
        self.wake()

    def drain(self) -> None:
        """Start no further tasks; running ones may finish."""
        self._draining = True
        self._waiting.fail(StopReason.SHUTDOWN, self._takes)
        self.wake()

    def stop_all(self, reason: StopReason) -> None:
        """Stop every worker: an idle one is asked, a busy one is not."""
        self._draining = self._closing = True
        self._waiting.fail(StopReason.SHUTDOWN)
        busy = self._jobs_by_worker()
        for worker in list(self.workers.values()):
            worker.stop(reason, ask=worker.number not in busy)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for ``condition``, checked after each change of a worker.

        Raises:
            ShuttingDown: it cannot become true any more.
        """
        while not condition():
            if self._draining:
                raise ShuttingDown("the server is shutting down")
            self._changed.clear()
            await self._changed.wait()

    async def all_gone(self) -> None:
        """Wait until no worker is left, except for those that even SIGKILL does not end."""
        while any(worker.state is not WorkerState.LOST for worker in self._lives.values()):
            self._changed.clear()
            await self._changed.wait()

    def snapshot(self, start_method: str) -> PoolSnapshot:
        """The pool as it is now."""
        jobs, counts = self._jobs_by_worker(), self._waiting.counts()
        workers = self.workers.values()
        return PoolSnapshot(
            start_method=start_method,
            waiting=counts["waiting"],
            waiting_light=counts["waiting_light"],
            workers=[WorkerSnapshot.of(w, jobs.get(w.number), w.grant.use) for w in workers],
            ended=list(self._ended),
        )

    def on_moved(self, worker: Worker) -> None:
        """A worker changed its state."""
        self.metrics.count_move(worker.state.value, worker.previous.value, worker.previous_s)
        if worker.previous is WorkerState.STARTING:
            self.metrics.import_seconds += worker.import_s
        if worker.state is WorkerState.STANDBY:
            self._backoff.succeeded()
        if worker.previous is WorkerState.RESTING:
            worker.grant.give_back()  # its booking ended with its models
            worker.grant = NO_DEVICE
        if worker.state in (WorkerState.RELEASING, WorkerState.LOST):
            self._lost_its_job(worker)
        if worker.state is WorkerState.RELEASING:
            self.metrics.note_peak(worker.memory.peak, worker.grant.use.peak_bytes)
            self.metrics.count_stop(worker.reason.value if worker.reason else "unknown")
        if worker.previous is WorkerState.STARTING and worker.reason is StopReason.START_FAILED:
            self._start_failed()
        if worker.state is WorkerState.STOPPED:
            self._bookings.forget(worker)
            self.workers.pop(worker.number, None)
            self._ended.append(WorkerSnapshot.of(worker))
        self.wake()

    def on_message(self, worker: Worker, message: messages.FromWorker) -> None:
        """A worker reported on its job; reports on another job are stale and dropped."""
        job = self._running.get(getattr(message, "job", 0))
        if job is None or job.worker != worker.number:
            _log.warning("worker %d: stale %s message dropped", worker.number, message.kind)
            return
        if isinstance(message, messages.Started):
            job.listeners.on_started()
        elif isinstance(message, messages.Inspected):
            self._bookings.inspected(job, uses_gpu=message.uses_gpu)
        elif isinstance(message, messages.Progressed):
            self._progressed(worker, job, message)
        elif isinstance(message, messages.CallbackDue):
            job.listeners.on_callback(message.payload)
        elif isinstance(message, messages.Done):
            self._done(worker, job, message)
        elif isinstance(message, messages.Failed):
            self._failed(worker, job, message)

    def wake(self) -> None:
        """Decide again, once, after the events of this moment."""
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
                job = self._waiting.take(light=decision.light)
                self._assign(self.workers[decision.worker], job)
            elif isinstance(decision, scheduling.Start):
                self._start_worker()
            elif isinstance(decision, scheduling.Rest):
                self.workers[decision.worker].rest()
            elif isinstance(decision, scheduling.Retire):
                self.workers[decision.worker].stop(decision.reason)
            else:
                wake_at.append(decision.when)
        if any(self._waiting.counts().values()):
            self._waiting.note_starts(*scheduling.starts_awaited(self._view(now), self.config))
        if wake_at:
            self._timer = asyncio.get_running_loop().call_later(min(wake_at) - now, self.wake)

    def _view(self, now: float) -> scheduling.PoolView:
        busy, workers = self._jobs_by_worker(), self.workers.values()
        return scheduling.PoolView(
            now=now,
            **self._waiting.view(),
            workers=[w.view(w.number in busy, w.grant.use.now_bytes) for w in workers],
            draining=self._closing or (self._draining and self.tasks_in_parts == 0),
            more_coming=self.tasks_in_parts > 0,
            no_start_before=self._backoff.no_start_before,
        )

    def _start_worker(self) -> None:
        worker = Worker(self.next_number(), self.config, self._starter, self)
        self.workers[worker.number] = worker
        self.metrics.workers_started += 1
        self.metrics.count_move(worker.state.value)
        life = asyncio.create_task(worker.live())
        self._lives[life] = worker
        life.add_done_callback(self._life_over)

    def _life_over(self, life: asyncio.Task[None]) -> None:
        del self._lives[life]
        self._changed.set()
        if not life.cancelled() and (error := life.exception()) is not None:
            _log.error("a worker's supervision failed", exc_info=error)

    def _assign(self, worker: Worker, job: Job) -> None:
        if job.network and worker.offline:
            self._waiting.put_first(job)
            worker.stop(StopReason.NEEDS_NETWORK)
        elif not job.given_to(worker.folder):
            self.wake()  # the worker is as idle as before
        else:
            self._running[job.number] = job
            job.worker = worker.number
            if job.light or not worker.uses_gpu:
                self._hand_over(worker, job, None)
            else:
                worker.book(job.task_id)
                self._bookings.ask(worker, job)

    def _answered(self, worker: Worker, job: Job, may_run: bool) -> None:
        """Admission has answered; a warm worker may have no room for what this job needs."""
        if may_run:
            self._hand_over(worker, job, worker.grant.device_uuid)
            return
        if self._takes(job):
            self._back_in_line(job)
        else:
            self._settle(job, TaskFailed(SHUT_DOWN))
        worker.unbook()
        worker.stop(StopReason.MAKE_ROOM)

    def _waits(self, job: Job, waiting: Waiting) -> None:
        job.waits(Stage.WAITING_FOR_GPU, waiting.reason)
        if waiting.for_own_workers:
            make_room(self.workers.values(), overdue=waiting.overdue)

    def _hand_over(self, worker: Worker, job: Job, device: str | None) -> None:
        job.begin(worker.number, self._stop_job)
        given = (job.task_id, worker.number, worker.pid, job.attempts)
        _log.debug("task %s: given to worker %d (pid %s), attempt %d", *given)
        worker.run(job.order(device), job.task_id, light=job.light)
        self._memory.run()

    def _progressed(self, worker: Worker, job: Job, message: messages.Progressed) -> None:
        job.progressed(message.progress)
        if message.progress.completed_pages:
            pages = (message.progress.completed_pages, message.progress.total_pages)
            _log.debug("task %s: page %d of %d", job.task_id, *pages)
        if message.progress.phase == _LOADING_PHASE:
            worker.loading(holds_models=message.holds_models, lean=message.lean)
        else:
            worker.converting(holds_models=message.holds_models, lean=message.lean)
            if message.holds_models:
                worker.grant.loaded()
        job.listeners.on_progress(message.progress)

    def _done(self, worker: Worker, job: Job, message: messages.Done) -> None:
        try:
            job.hand_over.open_result(message.result)
        except ValueError as exc:
            _log.error("task %s: worker %d: %s", job.task_id, worker.number, exc)
            job.verdict = TaskFailed(Ending(None, StopReason.PROTOCOL).failure())
            worker.stop(StopReason.PROTOCOL, ask=False)
            return
        self.metrics.record_task(message.result.processing_time, job.overhead_s(message.result))
        self.metrics.count_onnx(message.result.onnx)
        worker.onnx = message.result.onnx or worker.onnx
        self._settle(job, message.result)
        result = message.result
        worker.grant.finished(completed=result.typical, ocr_ran=result.ocr_ran)
        self._freed(worker, message)

    def _failed(self, worker: Worker, job: Job, message: messages.Failed) -> None:
        failure = message.failure()
        no_memory = ran_out_of_memory(failure)
        no_gpu_memory = failure.details.get("reason") == CUDA_OUT_OF_MEMORY
        if no_gpu_memory:
            worker.grant.out_of_memory()
        worker.grant.finished(completed=False)
        if no_memory:
            worker.give_up = StopReason.OUT_OF_MEMORY
        stays = job.verdict is None and self._takes(job)
        if no_memory and stays and self.losses.tries_again(job, failure):
            self._back_in_line(job)
        else:
            self._settle(job, job.verdict or TaskFailed(failure))
        self._freed(worker, message)

    def _freed(self, worker: Worker, message: messages.Done | messages.Failed) -> None:
        self.metrics.count_converters(message.converters)
        worker.finished(
            holds_models=message.holds_models,
            lean=message.lean,
            model_sets=message.converters.model_sets,
        )

    def _stop_job(self, job: Job, reason: StopReason, verdict: TaskFailed | None = None) -> None:
        """End a running job by ending its worker; the job settles when the worker is gone."""
        if job.worker is None or job.verdict is not None:
            return
        worker = self.workers[job.worker]
        if worker.state is WorkerState.BOOKING:
            self._bookings.forget(worker)
            self._settle(job, TaskFailed(Ending(None, reason).failure()))
            worker.unbook()
            return
        if reason in (StopReason.TIMED_OUT, StopReason.STALLED):
            job.verdict = job.over_limit(reason)
        else:
            job.verdict = verdict or TaskFailed(Ending(None, reason).failure())
        worker.stop(reason, ask=False)

    def _lost_its_job(self, worker: Worker) -> None:
        job = self._jobs_by_worker().get(worker.number)
        if job is None:
            return
        ending = self.losses.ending(worker)
        self._bookings.forget(worker)
        worker.grant.finished(completed=False)
        if job.verdict is not None or not ending.worth_another_try:
            self._settle(job, job.verdict or TaskFailed(ending.failure()))
            return
        failure = ending.failure()
        self.losses.count(ending)
        if not self._takes(job):
            self._settle(job, TaskFailed(failure))
        elif self.losses.tries_again(job, failure):
            self._back_in_line(job)
        else:
            del self._running[job.number]
            job.end_attempt()
            self.losses.give_up(job, failure)

    def _back_in_line(self, job: Job) -> None:
        self._running.pop(job.number, None)
        job.end_attempt()
        job.hand_over.take_back(self._starter.folders.base)
        self._waiting.put_first(job)
        self.wake()

    def _jobs_by_worker(self) -> dict[int, Job]:
        return {job.worker: job for job in self._running.values() if job.worker is not None}

    def _busy(self) -> list[Worker]:
        return [self.workers[number] for number in self._jobs_by_worker()]

    def _over_memory(self, worker: Worker) -> None:
        job = self._jobs_by_worker()[worker.number]
        over = job.over_memory(worker.memory.current, self.config.memory_limit_bytes)
        self._stop_job(job, StopReason.MEMORY_LIMIT, over)

    def _settle(self, job: Job, outcome: JobResult | TaskFailed) -> None:
        self._running.pop(job.number, None)
        job.settle(outcome)

    def _takes(self, job: Job) -> bool:
        """Whether ``job`` may wait for a worker: during shutdown only if its task has started."""
        return not self._closing and (job.goes_on or not self._draining)

    def _start_failed(self) -> None:
        """Back off, and after several failures in a row fail the waiting jobs."""
        self._backoff.failed()
        if self._backoff.failures >= _MAX_START_FAILURES:
            self._waiting.fail(StopReason.START_FAILED)
