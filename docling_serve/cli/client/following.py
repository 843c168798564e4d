"""A task's states as they change, and their description."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

_RECONNECTS = 20

Status = dict[str, Any]


def follow(client: httpx.Client, task_id: str, show: Callable[[Status], None]) -> Status:
    """Call ``show`` with each state of a task; returns the last one.

    Raises:
        httpx.HTTPStatusError: the server does not know the task.
        httpx.TransportError: it is still unreachable after retries.
    """
    status: Status = {}
    for status in _states(client, task_id):
        show(status)
    return status


def _states(client: httpx.Client, task_id: str) -> Iterator[Status]:
    """The states of a task. After a lost connection the stream resumes at the last event."""
    from httpx_sse import connect_sse  # noqa: PLC0415 - not needed by the server

    last_id = ""
    for left in reversed(range(_RECONNECTS)):
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(
                client, "GET", f"/v1/tasks/{task_id}/events", headers=headers
            ) as source:
                if source.response.is_error:
                    source.response.read()  # read the body before the stream is closed
                source.response.raise_for_status()
                for event in source.iter_sse():
                    if not event.data:  # httpx-sse also yields the comments of a quiet stream
                        continue
                    last_id = event.id
                    yield json.loads(event.data)
                    if event.event == "end":
                        return
        except httpx.TransportError:
            if not left:
                raise
    raise httpx.ReadError(f"the server closed the event stream of task {task_id} repeatedly")


def stage_text(status: Status) -> str:
    """Where a task stands, in words; built here for servers that do not send it."""
    if said := status.get("stage_text"):
        return str(said)
    meta = status.get("task_meta") or {}
    if status["task_status"] == "pending":
        return "queued"
    if meta.get("total_pages"):
        return f"page {meta.get('completed_pages')} of {meta['total_pages']}"
    return str(meta.get("phase") or status["task_status"])


def pages(status: Status) -> tuple[int, int] | None:
    """Pages done and total pages, once they are known."""
    meta = status.get("task_meta") or {}
    total = meta.get("total_pages")
    return (meta.get("completed_pages") or 0, total) if total else None
