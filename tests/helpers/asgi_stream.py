"""A reader of server-sent events that speaks to an app through its ASGI interface.

httpx reads an ASGI answer only when it is complete; this one reads it as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from httpx_sse import ServerSentEvent
from httpx_sse._decoders import SSEDecoder
from typing_extensions import Self

_LIMIT_S = 30


class AsgiStream:
    """``async with AsgiStream(app, "/path", headers) as stream``; leaving hangs up."""

    def __init__(self, app: FastAPI, path: str, headers: Mapping[str, str]) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},  # as uvicorn says
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("test", 1),
            "server": ("server", 80),
        }
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._asked = False
        self._decoder = SSEDecoder()
        self._text = ""
        self._complete = False
        self._run = app(scope, self._receive, self._from_app.put)

    async def __aenter__(self) -> Self:
        self._app = asyncio.ensure_future(self._run)
        start = await asyncio.wait_for(self._from_app.get(), _LIMIT_S)
        assert start["status"] == 200, start
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.set()
        await asyncio.wait_for(self._app, _LIMIT_S)

    async def next(self) -> ServerSentEvent:
        """The next event."""
        event = await self._next()
        assert event is not None, "the stream ended"
        return event

    async def rest(self) -> list[ServerSentEvent]:
        """All events up to the end of the stream."""
        events = []
        while (event := await self._next()) is not None:
            events.append(event)
        return events

    async def _next(self) -> ServerSentEvent | None:
        while True:
            while "\n" in self._text:
                line, _, self._text = self._text.partition("\n")
                event = self._decoder.decode(line)
                if event is not None and event.data:
                    return event
            if self._complete:
                return None
            message = await asyncio.wait_for(self._from_app.get(), _LIMIT_S)
            self._text += message.get("body", b"").decode()
            self._complete = not message.get("more_body", False)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}
