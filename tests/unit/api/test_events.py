"""Server-sent events of a task: which, in which order, and how a reader comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from httpx_sse import ServerSentEvent

from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobProgress
from tests.helpers.asgi_stream import AsgiStream
from tests.helpers.rest_server import RestServer, rest_server


async def submit(server: RestServer, **headers: str) -> str:
    reply = await server.client.post(
        "/v1/convert/file/async", files=[("files", ("a.md", b"# T"))], headers=headers
    )
    task_id: str = reply.json()["task_id"]
    return task_id


def short(event: ServerSentEvent) -> tuple[str, str, Any]:
    data = json.loads(event.data)
    return event.event, data["task_status"], data["task_position"]


def stream(server: RestServer, task_id: str, **headers: str) -> AsgiStream:
    return AsgiStream(server.app, f"/v1/tasks/{task_id}/events", headers)


async def test_a_queued_task_tells_every_step(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        await submit(server)
        await server.runner.begun.get()
        await submit(server)
        third = await submit(server)
        async with stream(server, third) as events:
            told = [await events.next()]
            server.runner.gate.set()
            told += await events.rest()

    assert [short(event) for event in told] == [
        ("update", "pending", 2),
        ("update", "pending", 2),
        ("update", "pending", 1),
        ("update", "pending", 1),
        ("update", "started", None),
        ("end", "success", None),
    ]
    assert len({event.id for event in told}) == len(told)
    texts = [json.loads(event.data)["stage_text"] for event in told]
    assert texts[0] == "queued (2 ahead)"
    assert [text.partition(", expected")[0] for text in texts[1:4]] == [
        "queued (1 ahead",
        "queued (1 ahead",
        "queued",
    ]
    assert texts[4] == "converting"
    assert re.fullmatch(r"done \(waited [\d.]+ s, converted [\d.]+ s\)", texts[5])


async def test_progress_is_told_page_by_page(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        report = server.runner.requests[task_id].listeners.on_progress
        async with stream(server, task_id) as events:
            await events.next()
            for page in (1, 2):
                report(JobProgress(phase="build", completed_pages=page, total_pages=2))
            pages = [json.loads((await events.next()).data)["task_meta"] for _ in range(2)]
            server.runner.gate.set()
            await events.rest()

    assert [(meta["phase"], meta["completed_pages"]) for meta in pages] == [
        ("build", 1),
        ("build", 2),
    ]


async def test_who_comes_back_is_not_told_again(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        async with stream(server, task_id) as events:
            seen = await events.next()
        async with stream(server, task_id, **{"Last-Event-ID": seen.id}) as events:
            server.runner.gate.set()
            told = await events.rest()

    assert [short(event) for event in told] == [("end", "success", None)]


async def test_who_knows_the_end_is_sent_away_for_good(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        task_id = await submit(server)
        async with stream(server, task_id) as events:
            last = (await events.rest())[-1]
        reply = await server.client.get(
            f"/v1/tasks/{task_id}/events", headers={"Last-Event-ID": last.id}
        )

    assert (reply.status_code, reply.content) == (204, b"")


async def test_a_failure_is_told_with_its_cause(tmp_path: Path) -> None:
    failure = Failure("timeout", "Too slow.", details={"document": "a.md"})
    async with rest_server(tmp_path, failure=failure) as server:
        task_id = await submit(server)
        async with stream(server, task_id) as events:
            last = (await events.rest())[-1]

    assert last.event == "end"
    told = json.loads(last.data)["failure"]
    assert (told["category"], told["details"]) == ("timeout", {"document": "a.md"})


async def test_the_stream_ends_with_the_server(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        async with stream(server, task_id) as events:
            await events.next()
            server.services.stopping.set()
            assert await events.rest() == []


async def test_a_reader_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        async with stream(server, task_id) as events:
            await events.next()
        assert not server.engine._records[task_id].watches


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}])
async def test_the_key_is_asked_for(tmp_path: Path, headers: dict[str, str]) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        reply = await server.client.get("/v1/tasks/x/events", headers=headers)
    assert reply.status_code == 401


async def test_another_tenant_s_task_is_unknown(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        task_id = await submit(server, **{"X-Tenant-Id": "acme"})
        reply = await server.client.get(f"/v1/tasks/{task_id}/events")
    assert (reply.status_code, reply.json()) == (404, {"detail": "Task not found."})


# ---- the list of tasks ---------------------------------------------------------------------------


async def test_tasks_are_listed_the_newest_first(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        first, second = await submit(server), await submit(server)
        await submit(server, **{"X-Tenant-Id": "acme"})
        await server.runner.begun.get()
        everything = (await server.client.get("/v1/tasks")).json()["tasks"]
        waiting = (await server.client.get("/v1/tasks?state=pending")).json()["tasks"]
        newest = (await server.client.get("/v1/tasks?limit=1")).json()["tasks"]

    assert [task["task_id"] for task in everything] == [second, first]
    assert [task["task_id"] for task in waiting] == [second]
    assert [task["task_id"] for task in newest] == [second]
    assert everything[1]["started_at"] is not None
    assert everything[0]["started_at"] is None


@pytest.mark.parametrize("query", ["state=done", "limit=0", "limit=1001", "limit=x"])
async def test_a_list_that_cannot_be_is_refused(tmp_path: Path, query: str) -> None:
    async with rest_server(tmp_path) as server:
        assert (await server.client.get(f"/v1/tasks?{query}")).status_code == 422
