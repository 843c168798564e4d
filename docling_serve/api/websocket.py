"""The state of a task over a websocket: one message per change, closed once it has finished.

Messages and their order: upstream H78-H80.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

from docling.datamodel.service.responses import MessageKind
from docling_jobkit.orchestrators.base_orchestrator import RedisBackpressureError, TaskNotFoundError
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from docling_serve.api.dependencies import ServicesDep, brings_key, named_tenant
from docling_serve.api.error_handlers import BUSY, NO_TASK
from docling_serve.api.task_flow import status_response
from docling_serve.api.task_models import WebsocketMessage
from docling_serve.engines.base import DEFAULT_TENANT, TaskView, Watch

router = APIRouter()

#: docling's service client answers every update with a text, which requests another: without a
#: pause the two would keep each other busy for as long as the task runs.
_BETWEEN_REPEATS_S = 1.0

#: A client that finds the connection closed when it sends its text may never read what came before.
#: So the server waits for the client's last message: a text, or a disconnect. Silent clients are
#: given no longer than this.
_LAST_WORD_S = 1.0

_KEY_REQUIRED = "Api key is required as the ?api_key=SECRET query parameter."


@router.websocket("/v1/status/ws/{task_id}")
async def task_status_ws(
    websocket: WebSocket,
    services: ServicesDep,
    task_id: str,
    api_key: Annotated[str | None, Query()] = None,
    tenant_id: Annotated[str, Query()] = "",
) -> None:
    """Tell the client every state of the task; any text it sends asks for the newest again.

    A tenant in the header, where proxies put it, goes before one in the address.
    """
    if not brings_key(services.settings.api_key, websocket.headers, api_key):
        await websocket.send_denial_response(JSONResponse({"detail": _KEY_REQUIRED}, 401))
        return
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):  # a client that left needs no answer
        try:
            tenant = named_tenant(websocket, services) or tenant_id or DEFAULT_TENANT
            async with services.engine.watch(task_id, tenant) as watch:
                await _serve(websocket, watch)
        except TaskNotFoundError:
            await _send(websocket, WebsocketMessage(message=MessageKind.ERROR, error=NO_TASK))
        except RedisBackpressureError:
            await _send(websocket, WebsocketMessage(message=MessageKind.ERROR, error=BUSY))
        await websocket.close()


async def _serve(websocket: WebSocket, watch: Watch) -> None:
    """Send until the task has finished or the client has left."""
    asked, answered = asyncio.Event(), asyncio.Event()
    parts = (
        _tell(websocket, watch, answered),
        _listen(websocket, asked, answered),
        _repeat(watch, asked),
    )
    work = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for part in work:
            part.cancel()
    for ended in done:
        ended.result()


async def _tell(websocket: WebSocket, watch: Watch, answered: asyncio.Event) -> None:
    first = await anext(watch)
    await _send(websocket, _state(MessageKind.CONNECTION, first))
    await _send(websocket, _state(MessageKind.UPDATE, first))
    async for view in watch:
        await _send(websocket, _state(MessageKind.UPDATE, view))
    answered.clear()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(answered.wait(), _LAST_WORD_S)


async def _listen(websocket: WebSocket, asked: asyncio.Event, answered: asyncio.Event) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1000)
        asked.set()
        answered.set()


async def _repeat(watch: Watch, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        watch.repeat()
        await asyncio.sleep(_BETWEEN_REPEATS_S)


def _state(kind: MessageKind, view: TaskView) -> WebsocketMessage:
    return WebsocketMessage(message=kind, task=status_response(view))


async def _send(websocket: WebSocket, message: WebsocketMessage) -> None:
    await websocket.send_text(message.model_dump_json())
