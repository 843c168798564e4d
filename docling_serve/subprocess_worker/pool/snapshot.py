"""The pool at one moment, as plain data for operators and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from docling_serve.subprocess_worker.pool.admission import DeviceUse
from docling_serve.subprocess_worker.pool.memory import process_rss, tree_rss
from docling_serve.subprocess_worker.pool.states import WorkerState

if TYPE_CHECKING:
    from docling_serve.subprocess_worker.pool.job import Job
    from docling_serve.subprocess_worker.pool.worker import Worker

_LINES_SHOWN = 10


@dataclass(frozen=True)
class WorkerSnapshot:
    """One worker. Times in seconds, sizes in bytes, None where unknown.

    ``rss_bytes`` includes its children.
    """

    number: int
    state: str
    pid: int | None
    state_for_s: float
    age_s: float
    jobs_done: int
    holds_models: bool
    rss_bytes: int
    peak_rss_bytes: int
    vram_bytes: int | None
    peak_vram_bytes: int | None
    device: str | None
    task_id: str | None
    waits_for: str | None
    reason: str | None
    exit_code: int | None
    #: How many sets of models it keeps loaded.
    model_sets: int
    #: Its containment measures: ``on``, ``not asked for``, ``left to`` a variable of the operator,
    #: or ``off`` and why.
    measures: dict[str, str]
    #: What ONNX Runtime was asked to run on in it and what it runs on; None before first use.
    onnx: dict[str, Any] | None
    #: Its last output, once it has exited.
    last_output: list[str]

    @classmethod
    def of(
        cls, worker: Worker, job: Job | None = None, use: DeviceUse | None = None
    ) -> WorkerSnapshot:
        """``worker`` as it is now, with the ``job`` it runs and the device memory it holds."""
        now = time.monotonic()
        ended = worker.exit_code is not None or worker.pid is None
        rss = 0 if ended or worker.pid is None else tree_rss(worker.pid)
        worker.memory.peak = max(worker.memory.peak, rss)
        return cls(
            number=worker.number,
            state=worker.state.value,
            pid=worker.pid,
            state_for_s=round(now - worker.since, 3),
            age_s=round(now - worker.born, 3),
            jobs_done=worker.jobs_done,
            holds_models=worker.holds_models,
            rss_bytes=rss,
            peak_rss_bytes=worker.memory.peak,
            vram_bytes=use.now_bytes if use else None,
            peak_vram_bytes=use.peak_bytes if use else None,
            device=worker.device_id,
            task_id=job.task_id if job else None,
            waits_for=job.waits_for if job else None,
            reason=worker.reason.value if worker.reason else None,
            exit_code=worker.exit_code,
            model_sets=worker.model_sets,
            measures=worker.measures,
            onnx=worker.onnx.model_dump() if worker.onnx else None,
            last_output=worker.output.tail(_LINES_SHOWN).splitlines() if ended else [],
        )


@dataclass(frozen=True)
class TemplateSnapshot:
    """The process that workers are forked from, with its imports done and no models."""

    pid: int
    rss_bytes: int

    @classmethod
    def of(cls, pid: int | None) -> TemplateSnapshot | None:
        """The template with process ID ``pid``; None without one."""
        # Not its descendants: those are the workers.
        return None if pid is None else cls(pid, process_rss(pid))


@dataclass(frozen=True)
class PoolSnapshot:
    """All workers that are not gone, the last ones that are, the fork template if there is one, and
    how many jobs wait."""

    start_method: str
    waiting: int = 0
    waiting_light: int = 0
    workers: list[WorkerSnapshot] = field(default_factory=list)
    ended: list[WorkerSnapshot] = field(default_factory=list)
    template: TemplateSnapshot | None = None

    def by_state(self) -> dict[str, int]:
        """How many workers are in each state that is possible for one."""
        counts = {state.value: 0 for state in WorkerState if state is not WorkerState.STOPPED}
        for worker in self.workers:
            counts[worker.state] += 1
        return counts
