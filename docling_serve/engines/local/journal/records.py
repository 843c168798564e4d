"""What the journal stores, as plain records. All times are seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from docling_serve.engines.local.states import TaskState
from docling_serve.errors import DoclingServeError, Failure
from docling_serve.jobs.spec import JobResult


@dataclass(frozen=True)
class TaskRow:
    """A task's row; its documents and its ``job.json`` lie in its folder.

    In the engine ``state`` may be any :class:`TaskState`, in the journal only those in
    ``JOURNALED``.
    ``attempts`` counts the runs started. ``attached`` says that the client waits on its connection,
    so that no client can ask for the task once that connection is gone. ``light`` says that it
    needs no models. ``pending_callbacks`` are its callbacks (``CallbackSpec`` as JSON data) until
    their last event is among the deliveries. ``names`` are its first documents, for display.
    ``fetched`` is when a client first read the result.
    """

    task_id: str
    tenant: str
    task_type: str
    num_docs: int
    created: float
    input_bytes: int = 0
    attached: bool = False
    light: bool = False
    pending_callbacks: list[dict[str, Any]] | None = None
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
    names: list[str] = field(default_factory=list)


class JournalUnusable(DoclingServeError):
    """The journal is unusable; the text says why and what to do."""


class IllegalMove(DoclingServeError):
    """A task is in no state that allows the move, or is not in the journal at all."""

    def __init__(self, task_id: str, to: TaskState) -> None:
        super().__init__(f"task {task_id} cannot come to {to.value} from where it is")
        self.task_id = task_id
        self.to = to
