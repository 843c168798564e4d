"""What happens to a job whose worker was lost: it is retried, given up, or refused.

A request that took two workers down is not tried a third time. It is recognised by its documents
and options, so the same document sent again is refused at once instead of costing two more workers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable

from docling_serve.errors import CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY, Failure, TaskFailed
from docling_serve.jobs.spec import StagedFile, TaskFolder
from docling_serve.subprocess_worker.pool.exits import Ending, oom_kill_count
from docling_serve.subprocess_worker.pool.job import Job
from docling_serve.subprocess_worker.pool.metrics import SubprocessMetrics
from docling_serve.subprocess_worker.pool.worker import Worker

_log = logging.getLogger(__name__)


REMEMBERED_S = 3600.0

REFUSED = Failure(
    "policy",
    "This request has taken down its worker process repeatedly and is refused for a while.",
    details={"reason": "poison"},
)


class Losses:
    """Judges each loss. Event loop only."""

    def __init__(self, metrics: SubprocessMetrics, retries: int) -> None:
        self.poison = PoisonList()
        self._metrics = metrics
        self._retries = retries
        self._oom_kills = oom_kill_count()

    def ending(self, worker: Worker) -> Ending:
        """How ``worker`` ended, if that is known."""
        kills, before = oom_kill_count(), self._oom_kills
        self._oom_kills = kills
        return Ending(worker.exit_code, worker.reason, kills - before, worker.output.tail())

    def count(self, ending: Ending) -> None:
        """A worker was lost in mid-job; workers that we ended ourselves are not losses."""
        self._metrics.count_loss(ending.failure().details.get("exit", "unknown"))

    def tries_again(self, job: Job, failure: Failure) -> bool:
        """Whether ``job``, which failed because of its worker, may have another attempt."""
        if job.attempts > self._retries:
            return False
        self._metrics.retries += 1
        _log.warning("task %s: %s It will be tried again.", job.task_id, failure.message)
        return True

    def give_up(self, job: Job, failure: Failure) -> None:
        """It took several workers down: answer, and remember not to try it again."""
        failure.details["attempts"] = str(job.attempts)
        if job.attempts <= 1:
            job.settle(TaskFailed(failure))
            return
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self.poison.add, job.folder).add_done_callback(
            lambda _: job.settle(TaskFailed(failure))
        )


def ran_out_of_memory(failure: Failure) -> bool:
    """Whether a worker that reported ``failure`` must not get another job: its heap is full, or its
    CUDA context may be unusable."""
    return failure.details.get("reason") in (CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY)


class PoisonList:
    """Fingerprints of such requests, each forgotten after a while. Methods that read documents
    block: call them from a thread."""

    def __init__(
        self, remember_s: float = REMEMBERED_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._remember_s = remember_s
        self._clock = clock
        self._until: dict[str, float] = {}

    def __bool__(self) -> bool:
        now = self._clock()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return bool(self._until)

    def add(self, folder: TaskFolder) -> None:
        """Remember the request staged in ``folder``."""
        self._until[request_hash(folder)] = self._clock() + self._remember_s

    def matches(self, folder: TaskFolder) -> bool:
        """Whether the request staged in ``folder`` is on the list."""
        return bool(self) and request_hash(folder) in self._until


def request_hash(folder: TaskFolder) -> str:
    """A hash of everything that decides what a worker does with the task in ``folder``.

    Raises:
        OSError: the folder or a document is gone.
    """
    spec = folder.read_job()
    digest = hashlib.sha256()
    request = spec.model_dump_json(
        include={"options", "task_type", "sources"},
        exclude={"sources": {"__all__": {"path"}}},  # slices of it have another path
    )
    digest.update(request.encode())
    for source in spec.sources:
        if isinstance(source, StagedFile):
            with (folder.root / source.path).open("rb") as document:
                while block := document.read(1024 * 1024):
                    digest.update(block)
    return digest.hexdigest()
