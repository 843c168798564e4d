"""Headers on every answer that limit what browsers and caches may guess or keep."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Where documents are answered: below ``/v1``, and by the APIs of other programs.
_API = ("/v1/", "/process", "/tika", "/rmeta", "/meta")


class AnswerHeaders:
    """ASGI middleware. No browser guesses the type of an answer. API answers are marked as not to
    be stored; caches that store them anyway keep them apart by ``varies_by``, the names of request
    headers."""

    def __init__(self, app: ASGIApp, varies_by: str) -> None:
        self._app = app
        self._varies_by = varies_by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        in_api = scope["path"].removeprefix(scope.get("root_path", "")).startswith(_API)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                if in_api:
                    headers.setdefault("Cache-Control", "no-store")
                    headers.add_vary_header(self._varies_by)
            await send(message)

        await self._app(scope, receive, send_with_headers)
