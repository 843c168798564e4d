"""The status websocket: which messages, in which order, and when it closes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from docling_serve.jobs.spec import JobProgress
from tests.helpers.asgi_websocket import AsgiWebsocket
from tests.helpers.rest_server import RestServer, rest_server


async def submit(server: RestServer, **headers: str) -> str:
    reply = await server.client.post(
        "/v1/convert/file/async", files=[("files", ("a.md", b"# T"))], headers=headers
    )
    task_id: str = reply.json()["task_id"]
    return task_id


def watch(server: RestServer, task_id: str, query: str = "") -> AsgiWebsocket:
    return AsgiWebsocket(server.app, f"/v1/status/ws/{task_id}?{query}")


def short(message: dict[str, Any]) -> Any:
    """Kind, status and position of a message; the code of a close."""
    if "closed" in message:
        return message["closed"]
    task = message["task"]
    return message["message"], task["task_status"], task["task_position"]


async def test_queued_task_tells_every_step(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        first = await submit(server)
        await server.runner.begun.get()
        second, third = await submit(server), await submit(server)
        async with watch(server, third) as socket:
            told = [await socket.next(), await socket.next()]
            server.runner.gate.set()
            told += await socket.rest()
        assert {first, second, third} == {job.task_id for job in server.runner.jobs}
    assert [short(message) for message in told] == [
        ("connection", "pending", 2),
        ("update", "pending", 2),
        ("update", "pending", 2),  # one ahead of it has ended
        ("update", "pending", 1),
        ("update", "pending", 1),
        ("update", "started", None),
        ("update", "success", None),
        1000,
    ]
    assert {message["task"]["task_id"] for message in told[:-1]} == {third}
    assert {message["error"] for message in told[:-1]} == {None}


async def test_finished_task_is_told_and_closed(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        task_id = await submit(server)
        await server.engine.wait_finished(task_id, "default", 10)
        async with watch(server, task_id) as socket:
            told = await socket.rest()
    assert [short(message) for message in told] == [
        ("connection", "success", None),
        ("update", "success", None),
        1000,
    ]


async def test_unknown_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server, watch(server, "unknown") as socket:
        told = await socket.rest()
    assert told == [
        {"message": "error", "task": None, "error": "Task not found."},
        {"closed": 1000},
    ]


@pytest.mark.parametrize(
    ("owner", "query", "header", "found"),
    [
        ("default", "", None, True),
        ("default", "tenant_id=", None, True),
        ("default", "tenant_id=", "", True),
        ("default", "tenant_id=acme", None, False),
        ("acme", "tenant_id=acme", None, True),
        ("acme", "", "acme", True),
        ("acme", "tenant_id=other", "acme", True),
        ("acme", "tenant_id=acme", "other", False),
        ("acme", "tenant_id=acme", "", True),
    ],
)
async def test_the_tenant_is_that_of_the_header_before_that_of_the_address(
    tmp_path: Path, owner: str, query: str, header: str | None, found: bool
) -> None:
    headers = [] if header is None else [(b"x-tenant-id", header.encode())]
    async with rest_server(tmp_path) as server:
        task_id = await submit(server, **{"X-Tenant-Id": owner})
        target = f"/v1/status/ws/{task_id}?{query}"
        async with AsgiWebsocket(server.app, target, headers) as socket:
            assert (await socket.next())["message"] == ("connection" if found else "error")


async def test_task_of_another_tenant_is_unknown(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        task_id = await submit(server, **{"X-Tenant-Id": "acme"})
        async with watch(server, task_id) as socket:
            assert (await socket.next())["error"] == "Task not found."
        async with watch(server, task_id, "tenant_id=acme") as socket:
            assert (await socket.next())["task"]["task_id"] == task_id


@pytest.mark.parametrize("query", ["", "api_key=", "api_key=wrong"])
async def test_without_the_key_the_handshake_is_refused(tmp_path: Path, query: str) -> None:
    async with rest_server(tmp_path, api_key="secret") as server, watch(server, "x", query) as s:
        assert await s.next() == {
            "refused": 401,
            "json": {"detail": "Api key is required as the ?api_key=SECRET query parameter."},
        }


async def test_key_counts_in_the_query_and_in_the_headers(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        async with watch(server, "x", "api_key=secret") as socket:
            assert (await socket.next())["message"] == "error"
        for header in ((b"x-api-key", b"secret"), (b"authorization", b"Bearer secret")):
            async with AsgiWebsocket(server.app, "/v1/status/ws/x", [header]) as socket:
                assert (await socket.next())["message"] == "error"


async def test_any_text_asks_for_an_update(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        async with watch(server, task_id) as socket:
            await socket.next()
            update = await socket.next()
            socket.say("next")
            assert await socket.next() == update


async def test_failure_is_told_with_its_cause(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        async with watch(server, task_id) as socket:
            server.engine.cancel_running()
            *_, last, closed = await socket.rest()
    assert (short(last), closed) == (("update", "failure", None), {"closed": 1000})
    assert last["task"]["failure"]["category"] == "capacity"
    assert last["task"]["error_message"] == last["task"]["failure"]["message"]


async def test_progress_is_told(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        report = server.runner.requests[task_id].listeners.on_progress
        async with watch(server, task_id) as socket:
            await socket.next()
            await socket.next()
            for document, page in [(1, 0), (1, 1), (2, 0)]:
                report(
                    JobProgress(phase="build", document=document, num_docs=2, completed_pages=page)
                )
            server.runner.gate.set()
            *told, last, _ = await socket.rest()
    metas = [message["task"]["task_meta"] for message in told]
    assert [(meta["num_processed"], meta["completed_pages"]) for meta in metas] == [
        (0, 0),
        (0, 1),
        (1, 0),
    ]
    assert last["task"]["task_status"] == "success"


async def test_fifty_watchers_all_hear_everything(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        await submit(server)
        await server.runner.begun.get()
        task_id = await submit(server)
        sockets = [watch(server, task_id) for _ in range(50)]
        for socket in sockets:
            await socket.__aenter__()
            assert short(await socket.next()) == ("connection", "pending", 1)
        server.runner.gate.set()
        heard = await asyncio.gather(*(socket.rest() for socket in sockets))
        for socket in sockets:
            await socket.__aexit__()
    for told in heard:
        assert [short(message) for message in told] == [
            ("update", "pending", 1),
            ("update", "pending", 1),
            ("update", "started", None),
            ("update", "success", None),
            1000,
        ]


async def test_watcher_who_leaves_is_forgotten(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        async with watch(server, task_id) as socket:
            await socket.next()
            (record,) = server.engine._records.values()
            assert len(record.watches) == 1
        assert record.watches == set()


async def test_end_of_the_server_ends_the_stream(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        task_id = await submit(server)
        await server.runner.begun.get()
        async with watch(server, task_id) as socket:
            await server.engine.close()
            assert (await socket.rest())[-1] == {"closed": 1000}
