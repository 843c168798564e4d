"""The states of a task as server-sent events: one per change; the stream ends with the task.

Each event holds the whole state, so a client that reconnects needs only the newest. Its id is
derived from the state itself: it means the same after a restart, and at every server of a Redis.
FastAPI keeps the connection alive with a comment after 15 s without an event.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent

from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant
from docling_serve.api.task_flow import status_response
from docling_serve.engines.base import TaskView, Watch

router = APIRouter(prefix="/v1", tags=["tasks"], dependencies=[RequireApiKey])

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="Id of the last event received; the stream resumes after it.",
    ),
]


async def _watched(
    services: ServicesDep, tenant: Tenant, task_id: str, last_event_id: LastEventId = None
) -> AsyncIterator[Watch]:
    """Watch the task until the answer has been sent, or its reader has left.

    Raises:
        TaskNotFoundError: there is no such task.
        HTTPException: 204, to a client that already has the last state; a browser then stops
            reconnecting.
    """
    async with services.engine.watch(task_id, tenant) as watch:
        if watch.latest.finished and _event_of(watch.latest).id == last_event_id:
            raise HTTPException(204)
        yield watch


@router.get(
    "/tasks/{task_id}/events",
    response_class=EventSourceResponse,
    responses={204: {"description": "The task has finished, and the client has its last event."}},
)
async def task_events(
    services: ServicesDep,
    watch: Annotated[Watch, Depends(_watched)],
    last_event_id: LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """Send every state of a task: ``update`` while it waits and runs, ``end`` once it has finished.
    An event carries the same data as the task's status."""
    known = last_event_id
    async for view in _until(watch, services.stopping):
        event = _event_of(view)
        if event.id != known:
            known = event.id
            yield event


async def _until(watch: Watch, stopping: asyncio.Event) -> AsyncIterator[TaskView]:
    """The states that come before ``stopping``."""
    end = asyncio.ensure_future(stopping.wait())
    try:
        while not end.done():
            state = asyncio.ensure_future(watch.__anext__())
            try:
                await asyncio.wait({state, end}, return_when=asyncio.FIRST_COMPLETED)
                if state.done():
                    yield state.result()
            except StopAsyncIteration:
                return
            finally:
                state.cancel()
    finally:
        end.cancel()


def _event_of(view: TaskView) -> ServerSentEvent:
    data = status_response(view).model_dump_json()
    return ServerSentEvent(
        raw_data=data,
        event="end" if view.finished else "update",
        id=hashlib.sha256(data.encode()).hexdigest()[:16],
    )
