"""What the journal keeps, as plain records. All times are seconds of the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from docling_serve.errors import DoclingServeError, Failure
from docling_serve.jobs import JobResult


class TaskState(str, Enum):
    """Where a task stands.

    ``queued -> started -> success | failure``; a started task goes back to ``queued`` when its
    attempt ended with the server. A queued one may fail without having started, and may succeed:
    its start could not be written when the disk was full.
    """

    QUEUED = "queued"
    STARTED = "started"
    SUCCESS = "success"
    FAILURE = "failure"

    @property
    def finished(self) -> bool:
        """Whether nothing comes after it."""
        return self in (TaskState.SUCCESS, TaskState.FAILURE)


MAY_COME_FROM: dict[TaskState, tuple[TaskState, ...]] = {
    TaskState.QUEUED: (TaskState.STARTED,),
    TaskState.STARTED: (TaskState.QUEUED,),
    TaskState.SUCCESS: (TaskState.QUEUED, TaskState.STARTED),
    TaskState.FAILURE: (TaskState.QUEUED, TaskState.STARTED),
}
"""The legal moves: from which states a task comes to a state."""


@dataclass(frozen=True)
class JournaledTask:
    """A task as the journal knows it; its documents and its ``job.json`` lie in its folder.

    ``attempts`` counts the runs begun. ``attached`` says that the client waits on its connection,
    so that nobody asks for the task once that connection is gone. ``light`` says that it needs no
    models. ``untold`` are its callbacks (``CallbackSpec`` as JSON data) until their last event is
    among the deliveries. ``fetched`` is when a client first read the result.
    """

    task_id: str
    tenant: str
    task_type: str
    num_docs: int
    created: float
    input_bytes: int = 0
    attached: bool = False
    light: bool = False
    untold: list[dict[str, Any]] | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    state: TaskState = TaskState.QUEUED
    attempts: int = 0
    started: float | None = None
    finished: float | None = None
    fetched: float | None = None
    result: JobResult | None = None
    result_bytes: int = 0
    failure: Failure | None = None


@dataclass(frozen=True)
class Delivery:
    """An event that a callback is due: ``body`` goes to ``target`` (a ``CallbackSpec`` as JSON
    data), not before ``due``. ``attempts`` counts the tries so far."""

    delivery_id: int
    task_id: str
    target: dict[str, Any]
    body: dict[str, Any]
    due: float
    created: float
    attempts: int = field(default=0)


class JournalUnusable(DoclingServeError):
    """The journal cannot be worked with; the text says why and what to do."""


class IllegalMove(DoclingServeError):
    """A task is not where it would have to be for a move, or is not in the journal at all."""

    def __init__(self, task_id: str, to: TaskState) -> None:
        super().__init__(f"task {task_id} cannot come to {to.value} from where it is")
        self.task_id = task_id
        self.to = to
