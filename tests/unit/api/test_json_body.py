"""What the server holds of a JSON request while its task runs."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import UploadFile

from tests.helpers.rest_server import rest_server

MB = 2**20
DOCUMENT = b"# A title\n" + b"x" * 12 * MB


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def test_a_document_is_not_held_while_it_is_converted(tmp_path: Path, traced: None) -> None:
    text = base64.b64encode(DOCUMENT).decode()
    source = {"kind": "file", "filename": "a.md", "base64_string": text}
    body = json.dumps({"sources": [source]}).encode()
    del source, text
    async with rest_server(tmp_path, closed=True) as server:
        before, _ = tracemalloc.get_traced_memory()
        asked = asyncio.create_task(
            server.client.post(
                "/v1/convert/source", content=body, headers={"Content-Type": "application/json"}
            )
        )
        await server.runner.begun.get()
        server.runner.documents.clear()
        held, _ = tracemalloc.get_traced_memory()
        server.runner.gate.set()
        reply = await asked

    assert reply.status_code == 200
    assert held - before < 4 * MB, "neither as bytes nor as text"


async def test_the_uploads_of_a_refused_form_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones are files, of which a process may have so many open."""
    closed: list[str | None] = []

    async def close(upload: UploadFile) -> None:
        closed.append(upload.filename)

    monkeypatch.setattr(UploadFile, "close", close)
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(
            "/v1/convert/file", files={"files": ("a.md", b"# A")}, data={"do_ocr": "maybe"}
        )

    assert (reply.status_code, closed) == (422, ["a.md"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null"])
async def test_a_body_that_is_no_request_is_refused_as_ever(tmp_path: Path, content: bytes) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(
            "/v1/convert/source", content=content, headers={"Content-Type": "application/json"}
        )
    assert reply.status_code == 422
