"""A websocket client that speaks to an app through its ASGI interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from typing_extensions import Self

from tests.helpers.loops import PATIENCE_S


class AsgiWebsocket:
    """``async with AsgiWebsocket(app, "/path?query") as socket``."""

    def __init__(
        self, app: FastAPI, target: str, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        parts = urlsplit(target)
        scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": list(headers),
            "client": ("test", 1),
            "server": ("server", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        receive: Any = self._to_app.get
        send: Any = self._from_app.put
        self._run = app(scope, receive, send)

    async def __aenter__(self) -> Self:
        self._app = asyncio.ensure_future(self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait({self._app}, timeout=PATIENCE_S)
        with suppress(asyncio.CancelledError):
            self._app.result()

    async def next(self) -> Any:
        """The next message as JSON; ``{"closed": code}`` or ``{"refused": status, ...}``."""
        while True:
            event = await asyncio.wait_for(self._from_app.get(), timeout=PATIENCE_S)
            kind = event["type"]
            if kind == "websocket.send":
                return json.loads(event["text"])
            if kind == "websocket.close":
                return {"closed": event["code"]}
            if kind == "websocket.http.response.start":
                body = await self._from_app.get()
                return {"refused": event["status"], "json": json.loads(body["body"])}

    async def rest(self) -> list[Any]:
        """Every message up to the close."""
        messages: list[Any] = []
        while not messages or not {"closed", "refused"} & messages[-1].keys():
            messages.append(await self.next())
        return messages

    def say(self, text: str) -> None:
        """Send one text."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})
