"""Results that were made already, as clients see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from docling_serve.errors import Failure
from tests.helpers.rest_server import RestServer, rest_server

UPLOAD = [("files", ("a.md", b"# T"))]
SOURCE = {"kind": "file", "filename": "a.md", "base64_string": "IyBU"}


async def _convert(server: RestServer, **sent: Any) -> httpx.Response:
    return await server.client.post("/v1/convert/file", files=UPLOAD, **sent)


async def test_the_second_request_is_answered_at_once_however_it_comes(tmp_path: Path) -> None:
    async with rest_server(tmp_path, result_cache=True) as server:
        client = server.client
        first = await _convert(server)
        second = await _convert(server)
        as_json = await client.post("/v1/convert/source", json={"sources": [SOURCE]})
        task = await client.post("/v1/convert/file/async", files=UPLOAD)
        result = await client.get(f"/v1/result/{task.json()['task_id']}")
        listed = (await client.get("/v1/tasks")).json()["tasks"]
        chunked = await client.post("/v1/chunk/hybrid/file", files=UPLOAD)
        assert len(server.runner.jobs) == 2  # the first one, and the chunks
    assert first.headers["x-docling-cache"] == chunked.headers["x-docling-cache"] == "miss"
    answered = [second, as_json, task, result]
    assert [reply.headers["x-docling-cache"] for reply in answered] == ["hit"] * 4
    assert [reply.json() for reply in (second, as_json, result)] == [first.json()] * 3
    assert len({reply.headers["x-docling-task-id"] for reply in (first, second, result)}) == 3
    assert task.json()["task_status"] == "success"
    assert task.json()["task_meta"]["num_succeeded"] == 1
    assert {entry["task_status"] for entry in listed} == {"success"}


async def test_a_full_queue_does_not_keep_it_back(tmp_path: Path) -> None:
    async with rest_server(tmp_path, result_cache=True, eng_loc_max_queued_tasks=1) as server:
        await _convert(server)
        server.runner.gate.clear()
        others = [("files", ("b.md", b"# U"))]
        for _ in range(2):
            await server.client.post("/v1/convert/file/async", files=others)
            if len(server.runner.jobs) == 1:
                await server.runner.begun.get()
        full = await server.client.post("/v1/convert/file/async", files=others)
        kept = await _convert(server)
        server.runner.gate.set()
    assert (full.status_code, kept.status_code) == (429, 200)


async def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        replies = [await _convert(server) for _ in range(2)]
        assert len(server.runner.jobs) == 2
    assert [reply for reply in replies if "x-docling-cache" in reply.headers] == []


async def test_a_tenant_never_gets_the_result_of_another(tmp_path: Path) -> None:
    async with rest_server(tmp_path, result_cache=True) as server:
        await _convert(server)
        other = await _convert(server, headers={"X-Tenant-Id": "other"})
        assert len(server.runner.jobs) == 2
    assert other.headers["x-docling-cache"] == "miss"


async def test_where_it_cannot_be_used_nothing_is_said_of_it(tmp_path: Path) -> None:
    source = {"kind": "http", "url": "https://example.com/a.pdf"}
    async with rest_server(tmp_path, result_cache=True) as server:
        replies = [
            await server.client.post("/v1/convert/source", json={"sources": [source]})
            for _ in range(2)
        ]
        assert len(server.runner.jobs) == 2
    assert [reply for reply in replies if "x-docling-cache" in reply.headers] == []


async def test_failures_are_not_kept(tmp_path: Path) -> None:
    async with rest_server(
        tmp_path, result_cache=True, failure=Failure("internal", "It broke.")
    ) as server:
        replies = [await _convert(server) for _ in range(2)]
        assert len(server.runner.jobs) == 2
    assert {reply.status_code for reply in replies} == {500}


@pytest.mark.parametrize("by", ["delete the first", "delete the second", "clear"])
async def test_a_client_that_deletes_a_result_deletes_the_kept_one(tmp_path: Path, by: str) -> None:
    async with rest_server(tmp_path, result_cache=True) as server:
        tasks = [(await _convert(server)).headers["x-docling-task-id"] for _ in range(2)]
        if by == "clear":
            await server.client.get("/v1/clear/results", params={"older_then": 0})
        else:
            await server.client.delete(f"/v1/tasks/{tasks['second' in by]}")
        again = await _convert(server)
    assert again.headers["x-docling-cache"] == "miss"


async def test_callbacks_and_keys_hold_as_ever(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "1"}
    async with rest_server(tmp_path, result_cache=True) as server:
        await _convert(server)
        ids = {(await _convert(server, headers=key)).headers["x-docling-task-id"] for _ in range(2)}
        other = await server.client.post(
            "/v1/convert/file", files=[("files", ("b.md", b"x"))], headers=key
        )
        await server.client.post(
            "/v1/convert/source/async",
            json={"sources": [SOURCE], "callbacks": [{"url": "https://93.184.215.14/"}]},
        )
        events = [event["kind"] for _, event in server.events]
    assert len(ids) == 1
    assert other.status_code == 422
    assert events == ["task_completed"]


async def test_metrics_tell_of_it(tmp_path: Path) -> None:
    async with rest_server(tmp_path, result_cache=True) as server:
        for _ in range(3):
            await _convert(server)
        page = (await server.client.get("/metrics")).text
    told = {
        line.rsplit(" ", 1)[0].rpartition('",')[2]: line.rsplit(" ", 1)[1]
        for line in page.splitlines()
        if line.startswith("docling_serve_result_cache_lookups_total{")
    }
    assert told == {'result="hit"}': "2.0", 'result="miss"}': "1.0"}
    assert "docling_serve_result_cache_size_bytes{" in page
