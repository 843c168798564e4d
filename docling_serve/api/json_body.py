"""Requests that make a task: what is done to all of them, whatever their route.

JSON is not held on to while the task runs. FastAPI keeps a request's body, as bytes and as what
they were parsed to, until the answer is sent. For a synchronous conversion of a document in base64
that is twice its size, for minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from docling_serve.api.old_spellings import with_sources

#: Header of an answer with the names of form fields, separated by commas.
IGNORED_FIELDS = "X-Docling-Ignored-Fields"
_NAMES = 20
_NAME_CHARS = 64

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
        self._parsed = with_sources(json.loads(text))
        return self._parsed

    def forget(self) -> None:
        """Empty what :meth:`json` has given, wherever it is still held."""
        if isinstance(self._parsed, dict):
            self._parsed.clear()


class JsonRoute(APIRoute):
    """A route whose JSON requests can be forgotten, and whose answers name the fields of a form
    that mean nothing here."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_forgetful(request: Request) -> Response:
            forgetful = _ForgetfulRequest(request.scope, request.receive)
            try:
                response = await handle(forgetful)
                name_ignored_fields(forgetful, response)
                return response
            finally:
                await forgetful.close()  # the uploads of a form are in the task's folder now

        return handle_forgetful


def name_ignored_fields(request: Request, response: Response) -> None:
    """Put the names of the form fields that mean nothing here into a header of ``response``."""
    names = getattr(request.state, "ignored_fields", ())
    if names:
        # Whatever a client calls a field must do for a header, and not make it long.
        quoted = [quote(name[:_NAME_CHARS], safe="._-[]") for name in names[:_NAMES]]
        response.headers[IGNORED_FIELDS] = ", ".join(quoted)


def forget_body(request: Request) -> None:
    """What ``request`` said is in a task now: let go of it."""
    if isinstance(request, _ForgetfulRequest):
        request.forget()
