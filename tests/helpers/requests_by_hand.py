"""A request that is sent now and whose answer is read later, or never."""

from __future__ import annotations

import http.client

import httpx

from tests.helpers.api import REQUEST_LIMIT_S, upload
from tests.helpers.server import RunningServer


def open_request(
    server: RunningServer, name: str, share: float = 1.0
) -> http.client.HTTPConnection:
    """Upload an example document for a synchronous conversion, or only the first ``share`` of it;
    closing the connection is what a client does that loses patience."""
    ready = httpx.Request("POST", server.url + "/v1/convert/file", files=[upload(name)])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_LIMIT_S)
    body = ready.read()
    connection.putrequest("POST", "/v1/convert/file")
    connection.putheader("Content-Type", ready.headers["Content-Type"])
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[: int(len(body) * share)])
    return connection
