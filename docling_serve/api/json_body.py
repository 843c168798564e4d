"""What every request that creates a task has in common, whatever its route.

The JSON of a request is released before the task runs. FastAPI keeps a request's body, as bytes
and parsed, until the answer is sent. For a synchronous conversion of a document in base64 that is
twice its size, for minutes.
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

#: Answer header that lists the names of ignored form fields, separated by commas.
IGNORED_FIELDS = "X-Docling-Ignored-Fields"
_NAMES = 20
_NAME_CHARS = 64

_THERE_IS_ONE = b"{}"


class _ForgetfulRequest(Request):
    """Returns its body once, parsed."""

    _text = b""
    _parsed: Any = None

    async def body(self) -> bytes:
        """Whether there is a body; FastAPI uses nothing else of it before :meth:`json`."""
        self._text = await super().body()
        del self._body
        return _THERE_IS_ONE if self._text else b""

    async def json(self) -> Any:
        text, self._text = self._text, b""
        self._parsed = with_sources(json.loads(text))
        return self._parsed

    def forget(self) -> None:
        """Empty the object that :meth:`json` returned, wherever it is still held."""
        if isinstance(self._parsed, dict):
            self._parsed.clear()


class JsonRoute(APIRoute):
    """A route whose JSON requests can be released early, and whose answers name the form fields
    that are ignored."""

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
    """List the names of ignored form fields in a header of ``response``."""
    names = getattr(request.state, "ignored_fields", ())
    if names:
        # Clients choose these names: make them valid in a header, and bound its length.
        quoted = [quote(name[:_NAME_CHARS], safe="._-[]") for name in names[:_NAMES]]
        response.headers[IGNORED_FIELDS] = ", ".join(quoted)


def forget_body(request: Request) -> None:
    """The task now has everything from ``request``: release its body."""
    if isinstance(request, _ForgetfulRequest):
        request.forget()
