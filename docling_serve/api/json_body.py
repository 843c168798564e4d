"""JSON requests that are not held on to while their task runs.

FastAPI keeps a request's body, as bytes and as what they were parsed to, until the answer is sent.
For a synchronous conversion of a document in base64 that is twice its size, for minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

_THERE_IS_ONE = b"{}"


class _ForgetfulRequest(Request):
    """Gives its body once, parsed."""

    _text = b""
    _parsed: Any = None

    async def body(self) -> bytes:
        """Whether there is a body; FastAPI asks no more of it before :meth:`json`."""
        self._text = await super().body()
        del self._body
        return _THERE_IS_ONE if self._text else b""

    async def json(self) -> Any:
        text, self._text = self._text, b""
        self._parsed = json.loads(text)
        return self._parsed

    def forget(self) -> None:
        """Empty what :meth:`json` has given, wherever it is still held."""
        if isinstance(self._parsed, dict):
            self._parsed.clear()


class JsonRoute(APIRoute):
    """A route whose JSON requests can be forgotten."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_forgetful(request: Request) -> Response:
            forgetful = _ForgetfulRequest(request.scope, request.receive)
            try:
                return await handle(forgetful)
            finally:
                await forgetful.close()  # the uploads of a form are in the task's folder now

        return handle_forgetful


def forget_body(request: Request) -> None:
    """What ``request`` said is in a task now: let go of it."""
    if isinstance(request, _ForgetfulRequest):
        request.forget()
