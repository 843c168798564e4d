"""One task of the local engine, and the event its waiters wait on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from docling_jobkit.datamodel.task import Task

from docling_serve.engines.watch import Watch
from docling_serve.errors import Failure
from docling_serve.jobs import JobProgress, JobResult, JobSpec, TaskFolder


@dataclass(eq=False)
class TaskRecord:
    """Everything the engine knows of a task. Only the engine writes it.

    ``spec`` is there until the task has finished. ``attached`` says that the client waits on its
    connection. A ``parked`` task does not go on in this process, but in the next one that works
    with the folder.
    """

    task: Task
    tenant: str
    folder: TaskFolder
    spec: JobSpec | None
    num_docs: int = 0
    input_bytes: int = 0
    light: bool = False
    attached: bool = False
    idempotency_key: str | None = None
    fingerprint: str | None = None
    attempts: int = 0
    has_room: bool = False
    runs: bool = False
    parked: bool = False
    ending: bool = False
    progress: JobProgress | None = None
    result: JobResult | None = None
    result_bytes: int = 0
    fetched: float | None = None
    failure: Failure | None = None
    cancelled_with: Failure | None = None
    runner: asyncio.Future[JobResult] | None = None
    started_clock: float | None = None
    removal: asyncio.TimerHandle | None = None
    watches: set[Watch] = field(default_factory=set)
    _change: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        """Whether the task has come to its end."""
        return self.task.is_completed()

    def changed(self) -> None:
        """Wake everybody who waits for the next change."""
        self._change.set()
        self._change = asyncio.Event()

    async def wait_finished(self, wait_s: float | None) -> None:
        """Wait until the task has finished or is parked; at most ``wait_s`` seconds, None for no
        limit."""
        deadline = None if wait_s is None else time.monotonic() + wait_s
        while not self.finished and not self.parked:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                # This very event, taken before anything else can run: the next change sets it and
                # puts another in its place.
                await asyncio.wait_for(self._change.wait(), left)
            except asyncio.TimeoutError:
                return
