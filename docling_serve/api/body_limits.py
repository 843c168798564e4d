"""How much of a request's body is read: nothing without a valid key, and no more than the limit.

The framework reads a body before any route runs, so both are decided here, in front of it. The
limit applies to the announced length and to the bytes received without one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

#: The rest of the body is still in transit: the connection cannot be reused.
_CLOSE = {"Connection": "close"}

_WITH_BODY = ("POST", "PUT")


class BodyLimits:
    """ASGI middleware. ``brings_key`` says whether a request's headers carry a valid key."""

    def __init__(
        self,
        app: ASGIApp,
        settings: DoclingServeSettings,
        brings_key: Callable[[Headers], bool],
    ) -> None:
        self._app = app
        self._uploads = settings.max_upload_size or None
        self._json = settings.max_json_size or None
        self._brings_key = brings_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit, name = self._limit(scope["method"], headers)
        refusal: HTTPException | None = None
        if not self._brings_key(headers):
            refusal = HTTPException(401, "Unauthorized", _CLOSE)  # upstream C20
        elif limit is not None and _announced(headers) > limit:
            refusal = _too_large(limit, name)
        if refusal is not None:
            _log.info("%s %s: %s", scope["method"], scope["path"], refusal.detail)
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive if limit is None else _counted(receive, limit, name), send)

    def _limit(self, method: str, headers: Headers) -> tuple[int | None, str]:
        """The body of a PUT is a document, whatever its type."""
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        if form or method == "PUT":
            return self._uploads, "max_upload_size"
        return self._json, "max_json_size"


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _counted(receive: Receive, limit: int, name: str) -> Receive:
    """``receive`` that raises the answer once the limit is exceeded; the framework passes on an
    ``HTTPException`` raised here unchanged."""
    received = 0

    async def receive_counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit, name)
        return message

    return receive_counted


def _too_large(limit: int, name: str) -> HTTPException:
    return HTTPException(413, f"The request has more than {limit} bytes ({name}).", _CLOSE)
