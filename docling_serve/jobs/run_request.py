"""What an engine hands over to run a task, and the runners that take it.

There are two runners: the worker pool, and threads of the server process. Neither knows of an
engine, and no engine knows which of them it has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.jobs.stages import Stage


def _ignore(_: object) -> None:
    return None


def _nothing() -> None:
    return None


def _none_waits() -> int:
    return 0


@dataclass(frozen=True)
class Listeners:
    """Called on the event loop: at the start of each attempt, at each step of progress, with each
    event due for the client's callbacks, and while no worker has the task, with the stage in which
    it waits."""

    on_started: Callable[[], None] = _nothing
    on_progress: Callable[[JobProgress], None] = _ignore
    on_callback: Callable[[dict[str, Any]], None] = _ignore
    on_waiting: Callable[[Stage], None] = _ignore


NO_LISTENERS = Listeners()


@dataclass(frozen=True)
class RunRequest:
    """One task to run. ``spec`` is in ``folder`` as ``job.json``, next to the staged documents.

    A ``light`` task needs no models. ``waiting`` is called when the task has finished and says how
    many other tasks wait; loaded models are kept for those.
    """

    spec: JobSpec
    folder: TaskFolder
    light: bool = False
    listeners: Listeners = NO_LISTENERS
    waiting: Callable[[], int] = _none_waits


Gate = Callable[[RunRequest], Awaitable[JobResult]]
"""Runs one task. Raises ``TaskFailed``; cancelling it stops the work."""


class Runner(Protocol):
    """The worker pool, or threads of this process."""

    async def run(self, request: RunRequest) -> JobResult:
        """Run a task to its end; cancelling the call stops the work.

        Raises:
            TaskFailed: the task ended without a result.
            ShuttingDown: tasks are no longer run.
        """
        ...

    def work_in(self, folder: Path) -> None:
        """Use ``folder``, which is emptied, for the files of running tasks."""
        ...

    async def warm_up(self) -> None:
        """Get ready, so that the first task need not wait."""
        ...

    async def clear(self) -> None:
        """Free the memory that loaded models hold."""
        ...

    def drain(self) -> None:
        """Take no more tasks; those that run may finish."""
        ...

    async def close(self) -> None:
        """Shut down what runs tasks."""
        ...

    def kill(self) -> None:
        """Do the same at once, without waiting."""
        ...
