"""The API key, and the pages a deployment can close (upstream C20, C21)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.helpers.api import missing_phrases, upload
from tests.helpers.server import NOTHING_KEPT, SUBPROCESS_MODE, RunningServer

KEY = "secret"
UNAUTHORIZED = {"detail": "Unauthorized"}
ROUTES = [
    ("POST", "/v1/convert/file"),
    ("POST", "/v1/convert/file/async"),
    ("POST", "/v1/convert/source"),
    ("POST", "/v1/convert/source/async"),
    ("GET", "/v1/status/poll/x"),
    ("GET", "/v1/result/x"),
    ("GET", "/v1/clear/converters"),
    ("GET", "/v1/clear/results"),
]


@pytest.fixture(scope="module")
def closed(serve: StartServer) -> Iterator[RunningServer]:
    """A server with a key, and with everything closed that can be."""
    settings = {
        "DOCLING_SERVE_API_KEY": KEY,
        "DOCLING_SERVE_SHOW_VERSION_INFO": "false",
        "DOCLING_SERVE_ENABLE_API_DOCS": "false",
        "DOCLING_SERVE_ENABLE_CAPABILITIES_ENDPOINT": "false",
    }
    with serve(SUBPROCESS_MODE | NOTHING_KEPT | settings) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Api-Key": ""}, {"X-Api-Key": "bad"}, {"Authorization": f"Basic {KEY}"}],
    ids=["missing", "empty", "wrong", "elsewhere"],
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_key_every_answer_is_the_same(
    closed: RunningServer, method: str, path: str, headers: dict[str, str]
) -> None:
    """No body is sent: the key is checked before it."""
    reply = closed.api.http.request(method, path, headers=headers)

    assert reply.status_code == 401
    assert reply.json() == UNAUTHORIZED


def test_the_key_in_the_address_does_not_count(closed: RunningServer) -> None:
    reply = closed.api.get("/v1/status/poll/x", api_key=KEY)

    assert reply.status_code == 401


def test_a_refused_upload_leaves_no_file(closed: RunningServer) -> None:
    reply = closed.api.convert(upload("notes.md"), X_Api_Key="bad")

    assert reply.status_code == 401
    assert closed.scratch_files() == []
    assert closed.workers() == []


def test_with_the_key_a_task_can_be_asked_for(closed: RunningServer) -> None:
    reply = closed.api.http.get("/v1/status/poll/x", headers={"X-Api-Key": KEY})

    assert reply.status_code == 404
    assert reply.json() == {"detail": "Task not found."}


def test_with_the_key_a_document_is_converted(closed: RunningServer) -> None:
    reply = closed.api.convert(upload("notes.md"), X_Api_Key=KEY)

    assert reply.status_code == 200
    assert missing_phrases("notes.md", reply.json()["document"]["md_content"]) == []


@pytest.mark.parametrize("path", ["/health", "/ready", "/readyz", "/livez"])
def test_probes_need_no_key(closed: RunningServer, path: str) -> None:
    reply = closed.api.get(path)

    assert reply.status_code == 200
    assert reply.json() == {"status": "ok"}


def test_versions_can_be_hidden(closed: RunningServer) -> None:
    reply = closed.api.get("/version")

    assert reply.status_code == 403
    assert reply.json() == {
        "detail": "Forbidden. The server is configured for not showing version details."
    }


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/v1/capabilities"])
def test_pages_can_be_closed(closed: RunningServer, path: str) -> None:
    assert closed.api.get(path).status_code == 404
