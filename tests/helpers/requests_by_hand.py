"""A request that is sent now and whose answer is read later, or never."""

from __future__ import annotations

import http.client

import httpx

from tests.helpers.api import REQUEST_LIMIT_S, upload
from tests.helpers.server import RunningServer


def open_request(server: RunningServer, name: str) -> http.client.HTTPConnection:
    """Upload an example document for a synchronous conversion; closing the connection is what a
    client does that loses patience."""
    ready = httpx.Request("POST", server.url + "/v1/convert/file", files=[upload(name)])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_LIMIT_S)
    connection.request(
        "POST",
        "/v1/convert/file",
        body=ready.read(),
        headers={"Content-Type": ready.headers["Content-Type"]},
    )
    return connection
