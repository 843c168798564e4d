"""docling's wire models of a task, with how far it is.

Named like the models they extend, so that the OpenAPI document keeps its names; a client that does
not know the added fields ignores them.
"""

from __future__ import annotations

from datetime import datetime

from docling.datamodel.service import responses, tasks
from pydantic import BaseModel


class TaskProcessingMeta(tasks.TaskProcessingMeta):
    """How many documents are done, and where the one at work is."""

    #: docling's phase of the document at work: initialize, build, assemble, enrich.
    phase: str | None = None
    #: Position of the document at work, from 1.
    document: int | None = None
    completed_pages: int | None = None
    total_pages: int | None = None


class TaskStatusResponse(responses.TaskStatusResponse):
    """Where a task stands."""

    task_meta: TaskProcessingMeta | None = None


class ListedTask(TaskStatusResponse):
    """A task in a list: where it stands, and since when."""

    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class TaskListResponse(BaseModel):
    """The tasks of the caller, the newest first."""

    tasks: list[ListedTask]


class WebsocketMessage(responses.WebsocketMessage):
    """One message of the status websocket."""

    task: TaskStatusResponse | None = None
