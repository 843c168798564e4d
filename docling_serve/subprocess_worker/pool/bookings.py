"""Device memory of workers: requested before a job is handed over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from docling_serve.subprocess_worker.pool.admission import NO_DEVICE, Admission, Waiting
from docling_serve.subprocess_worker.pool.job import Job
from docling_serve.subprocess_worker.pool.states import ENDING, StopReason, WorkerState
from docling_serve.subprocess_worker.pool.worker import Worker
from docling_serve.subprocess_worker.protocol.messages import Inspect

_log = logging.getLogger(__name__)

_INSPECTION_LIMIT_S = 30.0
_MAX_KINDS = 256

OnAnswer = Callable[[Worker, Job, bool], None]
OnJobWaits = Callable[[Job, Waiting], None]


class Bookings:
    """Requests memory, for one job per worker at a time. Event loop only.

    ``answered`` is called with the worker, the job, and whether the worker may run it: False if a
    warm one may not, given what it already holds. ``waits`` is called with the reason why a job has
    not started yet.
    """

    def __init__(self, admission: Admission, answered: OnAnswer, waits: OnJobWaits) -> None:
        self._admission = admission
        self._answered = answered
        self._waits = waits
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._uses_gpu: dict[str, bool] = {}
        self._inspecting: dict[int, asyncio.Future[bool]] = {}

    def ask(self, worker: Worker, job: Job) -> None:
        """Request the memory that ``job`` needs in ``worker``."""
        task = asyncio.create_task(self._ask(worker, job))
        self._asking[worker.number] = task
        task.add_done_callback(lambda done: self._asked(worker.number, done))

    def forget(self, worker: Worker) -> None:
        """Drop the request: its job will not come."""
        task = self._asking.pop(worker.number, None)
        if task is not None:
            task.cancel()

    def inspected(self, job: Job, *, uses_gpu: bool) -> None:
        """The worker has inspected ``job``."""
        answer = self._inspecting.get(job.number)
        if answer is not None and not answer.done():
            answer.set_result(uses_gpu)

    async def _ask(self, worker: Worker, job: Job) -> None:
        if self._admission.shares_devices and not await self._may_use_gpu(worker, job):
            self._answered(worker, job, True)
            return
        may_run = True
        if worker.grant is NO_DEVICE:
            worker.grant = await self._admission.admit(
                job.kind, lambda waiting: self._waits(job, waiting)
            )
        else:
            may_run = await worker.grant.extend(job.kind)
        if may_run and worker.pid is not None:
            worker.grant.started(job.kind, worker.pid)
        self._answered(worker, job, may_run)

    async def _may_use_gpu(self, worker: Worker, job: Job) -> bool:
        """Whether the engines that the job chooses can use a GPU, which the worker knows. Jobs of
        one kind choose the same ones."""
        if job.kind in self._uses_gpu:
            return self._uses_gpu[job.kind]
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._inspecting[job.number] = answer
        worker.say(Inspect(job=job.number, folder=str(job.hand_over.inputs)))
        try:
            uses_gpu = await asyncio.wait_for(answer, _INSPECTION_LIMIT_S)
        except asyncio.TimeoutError:  # the limits of the job will stop it
            return True
        finally:
            del self._inspecting[job.number]
        if len(self._uses_gpu) >= _MAX_KINDS:
            self._uses_gpu.clear()
        self._uses_gpu[job.kind] = uses_gpu
        return uses_gpu

    def _asked(self, number: int, task: asyncio.Task[None]) -> None:
        if self._asking.get(number) is task:
            del self._asking[number]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("device memory could not be requested", exc_info=error)


def make_room(workers: Iterable[Worker], *, overdue: bool) -> None:
    """End one worker that holds models, for a job that waits for their memory: an idle one at once,
    or else, when the job is ``overdue``, a busy one after its job."""
    loading, lost = WorkerState.LOADING, WorkerState.LOST
    living = [worker for worker in workers if worker.state is not lost]
    holding = [worker for worker in living if worker.holds_models or worker.state is loading]
    if any(worker.state in ENDING for worker in holding):
        return  # one is already exiting
    idle = [worker for worker in holding if worker.state is WorkerState.WARM]
    if idle:
        idle[0].stop(StopReason.MAKE_ROOM)
    elif overdue and all(worker.give_up is None for worker in holding):
        for worker in holding[:1]:
            worker.give_up = StopReason.MAKE_ROOM
