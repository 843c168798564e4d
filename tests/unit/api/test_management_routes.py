"""Memory diagnostics, and the door for progress from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.rest_server import rest_server

KEY = {"X-Api-Key": "secret"}


@pytest.mark.parametrize("name", ["stats", "counts"])
async def test_closed_by_default(tmp_path: Path, name: str) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.get(f"/v1/memory/{name}")
    assert reply.status_code == 403
    assert reply.json()["detail"] == (
        "Forbidden. The server is configured for not showing internal managament details."
    )


@pytest.mark.parametrize("name", ["stats", "counts"])
async def test_open_ones_still_ask_for_the_key(tmp_path: Path, name: str) -> None:
    opened: dict[str, Any] = {"enable_management_endpoints": True, "api_key": "secret"}
    async with rest_server(tmp_path, **opened) as server:
        path = f"/v1/memory/{name}"
        assert (await server.client.get(path)).status_code == 401
        assert (await server.client.get(path, headers=KEY)).status_code == 200


async def test_stats_are_mebibytes_of_this_process(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_management_endpoints=True) as server:
        stats = (await server.client.get("/v1/memory/stats")).json()
    assert set(stats) == {"rss", "workers_rss", "anon", "file", "slab", "cgroup_total"}
    assert 20 < stats["rss"] < 20_000


async def test_counts_name_the_most_frequent_types(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_management_endpoints=True) as server:
        counts = (await server.client.get("/v1/memory/counts")).json()
    assert set(counts) == {"gc", "objects", "asyncio", "top_types"}
    assert [len(counts["gc"][key]) for key in ("counts", "threshold")] == [3, 3]
    top = counts["top_types"]
    assert len(top) == 20
    assert top[0]["count"] == max(entry["count"] for entry in top) < counts["objects"]["total"]
    assert counts["asyncio"]["all_tasks"] >= counts["asyncio"]["pending_tasks"] > 0


PROGRESS = {"kind": "set_num_docs", "num_docs": 1}


@pytest.mark.parametrize(
    ("progress", "status", "body"),
    [
        (PROGRESS, 404, {"detail": "Task not found."}),
        ({"kind": "nonsense"}, 422, None),
    ],
)
async def test_progress_of_no_task_is_refused(
    tmp_path: Path, progress: dict[str, Any], status: int, body: Any
) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(
            "/v1/callback/task/progress", json={"task_id": "x", "progress": progress}
        )
    assert reply.status_code == status
    assert body is None or reply.json() == body


async def test_progress_of_a_task_is_acknowledged(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        task = await server.client.post(
            "/v1/convert/file/async", files=[("files", ("a.md", b"x"))], headers=KEY
        )
        body = {"task_id": task.json()["task_id"], "progress": PROGRESS}
        path = "/v1/callback/task/progress"
        assert (await server.client.post(path, json=body)).status_code == 401
        reply = await server.client.post(path, json=body, headers=KEY)
    assert (reply.status_code, reply.json()) == (200, {"status": "ack"})


@pytest.mark.parametrize(("debug", "shown"), [(False, []), (True, ["converting secret.pdf"])])
async def test_workers_name_documents_only_where_details_are_asked_for(
    tmp_path: Path, debug: bool, shown: list[str]
) -> None:
    opened: dict[str, Any] = {"enable_management_endpoints": True, "debug_error_details": debug}
    async with rest_server(tmp_path, **opened) as server:
        server.services.describe_workers = lambda: {
            "workers": [],
            "ended": [{"pid": 1, "last_output": ["converting secret.pdf"]}],
        }
        described = (await server.client.get("/v1/workers")).json()
    assert described["ended"] == [{"pid": 1, "last_output": shown}]
