"""Which other origins may read answers of the API in a browser.

With any origin open, docling-serve lets every page use its visitor's credentials (upstream A8).
This server identifies no client by a cookie, but a proxy in front of it may. So a page of any
origin may ask for credentials only while the browser has none to send; an answer to a request
that carried credentials is readable only by the origins that the settings list.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Send

_log = logging.getLogger(__name__)

#: A page sets this one itself; the others come from the browser's stored credentials.
_SET_BY_PAGES = "bearer "


class PagesElsewhere(CORSMiddleware):
    """Starlette's CORS, with credentials for any origin only where none were sent."""

    def __init__(
        self, app: ASGIApp, origins: Sequence[str], methods: Sequence[str], headers: Sequence[str]
    ) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=headers,
            allow_credentials=True,
        )
        self._told = False

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        if (
            message["type"] == "http.response.start"
            and self.allow_all_origins
            and "origin" in request_headers
            and _brings_credentials(request_headers)
        ):
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = "*"
            headers.add_vary_header("Origin")
            self._tell(request_headers)
            await send(message)
            return
        await super().send(message, send, request_headers)

    def _tell(self, headers: Headers) -> None:
        """Log once why the browser shows such a page nothing."""
        origin = headers["origin"]
        if not self._told and urlsplit(origin).netloc != headers.get("host"):
            self._told = True
            _log.warning(
                "a page of %.100r sends cookies or a password; the browser withholds the answers"
                " from it unless cors_origins (DOCLING_SERVE_CORS_ORIGINS) lists it",
                origin,
            )


def _brings_credentials(headers: Headers) -> bool:
    authorization = headers.get("authorization")
    remembered = authorization is not None and not authorization.lower().startswith(_SET_BY_PAGES)
    return remembered or "cookie" in headers
