"""Add the log fields that a client sends in its headers to the log lines of its request."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from docling_serve.observability.logging import request_fields

_VALUE_LIMIT = 256


class RequestFields:
    """ASGI middleware: headers that start with ``prefix`` become fields of JSON log lines, named
    by the rest of the header in lower case (upstream L97)."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix.lower().encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        token = request_fields.set(self._fields(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            request_fields.reset(token)

    def _fields(self, scope: Scope) -> dict[str, str]:
        start = len(self._prefix)
        return {
            name[start:].decode("latin-1"): value[:_VALUE_LIMIT].decode("latin-1")
            for name, value in scope["headers"]
            if name.startswith(self._prefix) and len(name) > start
        }
