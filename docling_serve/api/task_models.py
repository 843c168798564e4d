"""docling's wire models of a task, extended by its progress.

They keep the names of the models they extend, so that the OpenAPI document keeps its names;
clients ignore added fields that they do not know.
"""

from __future__ import annotations

from datetime import datetime

from docling.datamodel.service import responses, tasks
from pydantic import BaseModel, Field

from docling_serve.jobs.stages import Stage


class TaskProcessingMeta(tasks.TaskProcessingMeta):
    """How many documents are done, and how far the current one is."""

    #: docling's phase of the current document: initialize, build, assemble, enrich; with rq also
    #: the stage that a task waits in before a worker process has it.
    phase: str | None = None
    #: Position of the current document, from 1.
    document: int | None = None
    completed_pages: int | None = None
    total_pages: int | None = None


class TaskStatusResponse(responses.TaskStatusResponse):
    """Where a task stands."""

    task_meta: TaskProcessingMeta | None = None
    stage: Stage | None = Field(default=None, description="The stage that the task has reached.")
    stage_text: str | None = Field(
        default=None, description="The stage in words: `page 4 of 24`, `starting a worker`."
    )
    tasks_ahead: int | None = Field(
        default=None,
        description="While the task is queued: tasks that must leave the queue before it starts.",
    )
    expected_wait_s: float | None = Field(
        default=None, description="Estimated seconds until the task starts, from earlier tasks."
    )
    waited_s: float | None = Field(default=None, description="Seconds from acceptance to start.")
    converted_s: float | None = Field(default=None, description="Seconds from start to end.")


class ListedTask(TaskStatusResponse):
    """A task in a list: where it stands, and since when. ``names`` are its first documents, where
    the engine keeps them; ``num_pages`` counts pages of documents that have pages."""

    names: list[str] = Field(default_factory=list)
    num_docs: int = 0
    num_pages: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class TaskListResponse(BaseModel):
    """The tasks of the caller, the newest first."""

    tasks: list[ListedTask]


class WebsocketMessage(responses.WebsocketMessage):
    """One message of the status websocket."""

    task: TaskStatusResponse | None = None


class LineCapacityResponse(BaseModel):
    """One line of tasks."""

    queued: int
    running: int
    workers: int
    expected_wait_s: float = Field(
        description="Estimated wait in seconds of a task submitted now, from earlier tasks."
    )


class CapacityResponse(LineCapacityResponse):
    """The server's load, as the caller's next task would find it."""

    room: int | None = Field(description="How many more tasks may wait; null: no limit.")
    light: LineCapacityResponse | None = Field(
        description="The separate queue of documents that need no models, if there is one."
    )
