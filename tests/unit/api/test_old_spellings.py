"""Requests in the form of the first versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.rest_server import rest_server

PATH = "/v1/convert/source/async"
FILE = {"base64_string": "IyBU", "filename": "a.md"}
HTTP = {"url": "https://example.com/a.pdf", "headers": {"X": "1"}}


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        ({"http_sources": [HTTP]}, ["http"]),
        ({"file_sources": [FILE]}, ["file"]),
        ({"file_sources": [FILE], "http_sources": [HTTP, HTTP]}, ["file", "http", "http"]),
        ({"sources": [{**FILE, "kind": "file"}], "http_sources": [HTTP]}, ["file"]),
    ],
    ids=str,
)
async def test_old_lists_are_sources(
    tmp_path: Path, body: dict[str, Any], kinds: list[str]
) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(PATH, json={"options": {"do_ocr": False}, **body})
        assert reply.status_code == 200, reply.text
        await server.client.get(f"/v1/status/poll/{reply.json()['task_id']}?wait=100")
        (job,) = server.runner.jobs
    assert [source.kind for source in job.sources] == kinds
    assert job.options["do_ocr"] is False


async def test_errors_are_located_in_the_sources(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(PATH, json={"http_sources": [HTTP, {"url": "nope"}]})
    (error,) = reply.json()["detail"]
    assert error["loc"] == ["body", "sources", 1, "http", "url"]


@pytest.mark.parametrize("wrong", [HTTP, ["https://example.com/a.pdf"], "x"], ids=str)
async def test_what_is_no_list_of_objects_is_told_the_new_spelling(
    tmp_path: Path, wrong: Any
) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(PATH, json={"http_sources": wrong})
    assert reply.status_code == 422
    assert 'sources, a list of objects with "kind": "http"' in reply.json()["detail"]


@pytest.mark.parametrize("body", [{}, {"http_sources": []}, []], ids=str)
async def test_without_any_the_sources_are_missed(tmp_path: Path, body: Any) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(PATH, json=body)
    assert reply.status_code == 422
