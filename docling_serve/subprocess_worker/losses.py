"""What becomes of a job whose worker was lost under it: tried again, or given up."""

from __future__ import annotations

import asyncio
import logging

from docling_serve.errors import CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY, Failure, TaskFailed
from docling_serve.subprocess_worker.exits import Ending, oom_kill_count
from docling_serve.subprocess_worker.job import Job
from docling_serve.subprocess_worker.metrics import SubprocessMetrics
from docling_serve.subprocess_worker.poison import PoisonList
from docling_serve.subprocess_worker.worker import Worker

_log = logging.getLogger(__name__)


class Losses:
    """Judges one loss after the other. Event loop only."""

    def __init__(self, metrics: SubprocessMetrics, retries: int) -> None:
        self.poison = PoisonList()
        self._metrics = metrics
        self._retries = retries
        self._oom_kills = oom_kill_count()

    def ending(self, worker: Worker) -> Ending:
        """How ``worker`` ended, as far as it can be told."""
        kills, before = oom_kill_count(), self._oom_kills
        self._oom_kills = kills
        return Ending(worker.exit_code, worker.reason, kills - before, worker.output.tail())

    def count(self, ending: Ending) -> None:
        """A worker was lost in mid-job; those that we ended ourselves are no losses."""
        self._metrics.count_loss(ending.failure().details.get("exit", "unknown"))

    def tries_again(self, job: Job, failure: Failure) -> bool:
        """Whether ``job``, which failed for its worker's sake, may have another attempt."""
        if job.attempts > self._retries:
            return False
        self._metrics.retries += 1
        _log.warning("task %s: %s It is tried again.", job.task_id, failure.message)
        return True

    def give_up(self, job: Job, failure: Failure) -> None:
        """It took several workers with it: answer, and remember not to try it again."""
        failure.details["attempts"] = str(job.attempts)
        if job.attempts <= 1:
            job.settle(TaskFailed(failure))
            return
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self.poison.add, job.folder).add_done_callback(
            lambda _: job.settle(TaskFailed(failure))
        )


def ran_out_of_memory(failure: Failure) -> bool:
    """Whether a worker that reported ``failure`` is not to be trusted with another job: its heap
    is full, or its CUDA context may be unusable."""
    return failure.details.get("reason") in (CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY)
