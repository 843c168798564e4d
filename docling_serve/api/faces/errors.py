"""Errors of a face: what this server would answer, in the shape that the face's clients read.

A missing key and an announced body that is too large are refused before a route is chosen
(:mod:`docling_serve.api.body_limits`): a 401 or 413 to a PUT or POST keeps ``{"detail"}``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import Response

from docling_serve.api.json_body import JsonRoute

Shape = Callable[[int, str], Response]
"""Makes the error answer of a face from its status and a readable text."""

_Handler = Callable[[Request, Exception], Awaitable[Response]]


def face_route(shape: Shape) -> type[JsonRoute]:
    """A class of routes whose errors have this ``shape``, wherever they come from."""

    class FaceRoute(JsonRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_shaped(request: Request) -> Response:
                try:
                    response = await handle(request)
                except Exception as exc:
                    known = _handler_of(request.app, exc)
                    if known is None:
                        raise
                    response = await known(request, exc)
                if response.status_code < 400:
                    return response
                return _shaped(response, shape)

            return handle_shaped

    return FaceRoute


def _shaped(response: Response, shape: Shape) -> Response:
    """``response`` in another shape, with the headers that are not about its body."""
    shaped = shape(response.status_code, error_text(bytes(response.body)))
    for name, value in response.headers.items():
        if name not in ("content-length", "content-type"):
            shaped.headers[name] = value
    return shaped


def error_text(body: bytes) -> str:
    """The text of an error answer of this server: its ``detail``, including the locations of
    mistakes."""
    detail = json.loads(body)["detail"]
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in detail)


def _handler_of(app: FastAPI, exc: Exception) -> _Handler | None:
    """The server's answer to ``exc``."""
    for kind in type(exc).__mro__:
        if kind in app.exception_handlers:
            return cast(_Handler, app.exception_handlers[kind])
    return None
