"""docling's wire models of a task, with how far it is.

Named like the models they extend, so that the OpenAPI document keeps its names; a client that does
not know the added fields ignores them.
"""

from __future__ import annotations

from docling.datamodel.service import responses, tasks


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


class WebsocketMessage(responses.WebsocketMessage):
    """One message of the status websocket."""

    task: TaskStatusResponse | None = None
