"""How the end of a task is reported: to its callbacks, and to operators in the log."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

from docling.datamodel.service.callbacks import ProgressTaskCompleted

from docling_serve.engines.base import TaskView
from docling_serve.errors import Failure
from docling_serve.jobs.rendering import public_failure


def ended_event(failure: Failure | None) -> dict[str, Any]:
    """The last event that the callbacks of a task get, as JSON data."""
    ended = ProgressTaskCompleted(
        task_status="failure" if failure else "success",
        failure=public_failure(failure) if failure else None,
    )
    return ended.model_dump(mode="json")


def log_end(
    log: logging.Logger,
    task_id: str,
    failure: Failure | None,
    *,
    accepted: float,
    started: float | None,
    ended: float,
) -> None:
    """Log the one line that an operator gets at the end of a task. Times are seconds since 1970;
    ``started`` is None for a task that never ran."""
    began = ended if started is None else started
    log.info(
        "task %s: %s after %.3f s (waited %.3f s, ran %.3f s)%s",
        *(task_id, "failure" if failure else "success"),
        *(ended - accepted, began - accepted, ended - began),
        f": {failure.category}: {failure.message}" if failure else "",
    )


def log_ended_view(log: logging.Logger, view: TaskView) -> None:
    """:func:`log_end` for a task that has ended now."""
    now = datetime.now(timezone.utc)
    started = view.started_at.timestamp() if view.started_at else None
    accepted, ended = view.created_at or now, view.finished_at or now
    log_end(
        *(log, view.task_id, view.failure),
        accepted=accepted.timestamp(),
        started=started,
        ended=ended.timestamp(),
    )
