"""The queue as clients meet it: refusals, capacity, and requests that are sent twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from docling_serve.errors import Failure
from tests.helpers.rest_server import RestServer, rest_server
from tests.unit.api.test_batch_route import S3

UPLOAD = [("files", ("a.md", b"# T"))]
OTHER = [("files", ("a.md", b"# other"))]
SOURCE = {"kind": "file", "filename": "a.md", "base64_string": "IyBU"}
KEY = {"Idempotency-Key": "key 1"}

ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/convert/file", {"files": UPLOAD}),
    ("/v1/convert/file/async", {"files": UPLOAD}),
    ("/v1/convert/source", {"json": {"sources": [SOURCE]}}),
    ("/v1/convert/source/async", {"json": {"sources": [SOURCE]}}),
    ("/v1/chunk/hybrid/file", {"files": UPLOAD}),
    ("/v1/chunk/hierarchical/source/async", {"json": {"sources": [SOURCE]}}),
    (
        "/v1/convert/source/batch",
        {
            "json": {
                "sources": [{"kind": "http", "url": "https://example.com/a.pdf"}],
                "target": S3,
            }
        },
    ),
]


async def submit(server: RestServer, count: int = 1, **headers: str) -> list[httpx.Response]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return [
        await server.client.post("/v1/convert/file/async", files=UPLOAD, headers=names)
        for _ in range(count)
    ]


# ---- a full queue --------------------------------------------------------------------------------


async def test_beyond_the_limit_is_a_429_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, eng_loc_max_queued_tasks=2) as server:
        await submit(server)
        await server.runner.begun.get()  # it runs, so it does not count
        answers = await submit(server, 3)

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[2].headers["retry-after"]) >= 1
        assert "2 tasks are waiting" in answers[2].json()["detail"]
        sync = await server.client.post("/v1/convert/file", files=UPLOAD)
        assert sync.status_code == 429


async def test_there_is_room_again_when_one_has_left(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, eng_loc_max_queued_tasks=1) as server:
        await submit(server)
        await server.runner.begun.get()
        waiting, refused = await submit(server, 2)
        assert refused.status_code == 429
        await server.client.delete(f"/v1/tasks/{waiting.json()['task_id']}")

        assert [answer.status_code for answer in await submit(server, 1)] == [200]


async def test_a_tenant_is_not_locked_out_by_another_one(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, eng_loc_max_queued_tasks=4) as server:
        await submit(server)
        await server.runner.begun.get()
        await submit(server, 4, X_Tenant_Id="greedy")
        modest = await submit(server, 3, X_Tenant_Id="modest")
        greedy = await submit(server, 1, X_Tenant_Id="greedy")

        assert [answer.status_code for answer in modest] == [200, 200, 429]
        assert greedy[0].status_code == 429


async def test_uploads_that_wait_have_a_limit_too(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, eng_loc_max_queued_bytes=5) as server:
        await submit(server)
        await server.runner.begun.get()
        assert [answer.status_code for answer in await submit(server, 2)] == [200, 429]


# ---- capacity ------------------------------------------------------------------------------------


async def test_capacity_tells_what_there_is_to_do(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, eng_loc_max_queued_tasks=10) as server:
        idle = (await server.client.get("/v1/capacity")).json()
        assert idle == {
            "queued": 0,
            "running": 0,
            "workers": 1,
            "expected_wait_s": 0.0,
            "room": 10,
            "light": None,
        }
        await submit(server, 3)
        await server.runner.begun.get()
        busy = (await server.client.get("/v1/capacity")).json()
        assert (busy["queued"], busy["running"], busy["room"]) == (2, 1, 8)
        assert busy["expected_wait_s"] > 0


async def test_capacity_is_for_those_with_the_key(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        assert (await server.client.get("/v1/capacity")).status_code == 401


# ---- the same request twice ----------------------------------------------------------------------


@pytest.mark.parametrize(("path", "request_"), ROUTES)
async def test_a_client_that_sends_thrice_has_one_task(
    tmp_path: Path, path: str, request_: dict[str, Any]
) -> None:
    async with rest_server(tmp_path) as server:
        answers = [await server.client.post(path, headers=KEY, **request_) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200] * 3
        tasks = {
            answer.headers.get("x-docling-task-id") or answer.json()["task_id"]
            for answer in answers
        }
        assert len(tasks) == 1
        await server.client.get(f"/v1/status/poll/{tasks.pop()}", params={"wait": 100})
        assert len(server.runner.jobs) == 1


async def test_retries_at_the_same_moment_have_one_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        answers = await asyncio.gather(
            *(server.client.post("/v1/convert/file", files=UPLOAD, headers=KEY) for _ in range(5))
        )

        assert len({answer.headers["x-docling-task-id"] for answer in answers}) == 1
        assert len(server.runner.jobs) == 1


async def test_a_key_with_another_request_is_refused(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        await submit(server, 1, Idempotency_Key="key 1")
        changed = [
            {"files": OTHER},
            {"files": UPLOAD, "data": {"do_ocr": "false"}},
            {"files": [("files", ("b.md", b"# T"))]},
        ]
        for request in changed:
            answer = await server.client.post("/v1/convert/file/async", headers=KEY, **request)
            assert answer.status_code == 422
            assert "Idempotency-Key" in answer.json()["detail"]


async def test_keys_of_tenants_are_their_own(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        (one,) = await submit(server, 1, X_Tenant_Id="one", Idempotency_Key="key 1")
        (two,) = await submit(server, 1, X_Tenant_Id="two", Idempotency_Key="key 1")

        assert one.json()["task_id"] != two.json()["task_id"]


async def test_the_key_of_a_deleted_task_is_free(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        (first,) = await submit(server, 1, Idempotency_Key="key 1")
        await server.client.delete(f"/v1/tasks/{first.json()['task_id']}")
        (second,) = await submit(server, 1, Idempotency_Key="key 1")

        assert second.json()["task_id"] != first.json()["task_id"]


async def test_a_retry_of_a_failed_task_is_told_of_its_failure(tmp_path: Path) -> None:
    cause = Failure("backend_failure", "It is broken.")
    async with rest_server(tmp_path, failure=cause) as server:
        answers = [
            await server.client.post("/v1/convert/file", files=UPLOAD, headers=KEY)
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [422, 422]
        assert len(server.runner.jobs) == 1


async def test_running_out_of_time_leaves_the_task_of_a_key(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, max_sync_wait=0) as server:
        late = await server.client.post("/v1/convert/file", files=UPLOAD, headers=KEY)
        assert (late.status_code, late.json()["task"]) == (504, "running")
        server.runner.gate.set()
        task = late.json()["task_id"]
        ended = await server.client.get(f"/v1/status/poll/{task}", params={"wait": 100})

        assert ended.json()["task_status"] == "success"


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_a_length(tmp_path: Path, key: str) -> None:
    async with rest_server(tmp_path) as server:
        (answer,) = await submit(server, 1, Idempotency_Key=key)

        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]


# ---- clearing ------------------------------------------------------------------------------------


async def test_a_tenant_clears_only_its_own_results(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        for tenant in ("a", "b"):
            reply = await server.client.post(
                "/v1/convert/file", files=UPLOAD, headers={"X-Tenant-Id": tenant}
            )
            assert reply.status_code == 200
        await server.client.get("/v1/clear/results?older_then=0", headers={"X-Tenant-Id": "b"})
        left = {
            tenant: len(
                (await server.client.get("/v1/tasks", headers={"X-Tenant-Id": tenant})).json()[
                    "tasks"
                ]
            )
            for tenant in ("a", "b")
        }
    assert left == {"a": 1, "b": 0}
