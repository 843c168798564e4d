"""The stream that operators watch, and stopping one worker."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from docling_jobkit.orchestrators.base_orchestrator import RedisBackpressureError

from docling_serve.errors import Failure
from docling_serve.observability.load import GpuMemory
from tests.helpers.asgi_stream import AsgiStream
from tests.helpers.rest_server import rest_server

_PATH = "/v1/workers/events"
_WORKER = {"number": 1, "state": "busy", "rss_bytes": 5, "vram_bytes": 3, "task_id": "a"}


async def test_watchers_get_what_was_and_then_what_is(tmp_path: Path) -> None:
    failure = Failure("timeout", "Too long.")
    async with rest_server(
        tmp_path, failure=failure, enable_management_endpoints=True, enable_ui=True
    ) as server:
        server.services.describe_workers = lambda: {
            "workers": [_WORKER],
            "template": {"pid": 2, "rss_bytes": 4},
            "ended": [{"number": 0, "last_output": ["secret.pdf"]}],
        }

        async def read_gpus() -> list[GpuMemory]:
            return [GpuMemory("GPU-1", total_bytes=10, used_bytes=4)]

        server.services.read_gpus = read_gpus
        await server.client.post("/v1/convert/file", files=[("files", ("a.md", b"# T"))])
        async with AsgiStream(server.app, _PATH, {}) as events:
            history = await events.next()
            # The samples of before this watcher did not read the GPUs.
            while (now := json.loads((await events.next()).data))["sample"]["gpu"] is None:
                pass
    assert history.event == "history"
    assert isinstance(json.loads(history.data), list)
    sample = now["sample"]
    assert sample["gpu"] == {"ours": 3, "others": 1, "total": 10}
    assert sample["template"] == 4
    assert sample["workers"] == [{k: v for k, v in _WORKER.items() if k != "vram_bytes"}]
    assert sample["server"] > 0
    assert now["outcomes"] == {"timeout": 1}
    assert now["capacity"]["workers"] == 1
    assert now["pool"]["ended"] == [{"number": 0, "last_output": []}]


async def test_watchers_see_workers_while_the_queue_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_redis() -> int:
        raise RedisBackpressureError("Redis does not answer")

    async with rest_server(tmp_path, enable_management_endpoints=True) as server:
        monkeypatch.setattr(server.services.engine, "queue_size", no_redis)
        async with AsgiStream(server.app, _PATH, {}) as events:
            await events.next()
            seen = json.loads((await events.next()).data)
    assert seen["waiting"] == 0
    assert seen["sample"]["server"] > 0


async def test_the_stream_needs_what_management_needs(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        assert (await server.client.get(_PATH)).status_code == 403
        assert (await server.client.delete("/v1/workers/1")).status_code == 403
    async with rest_server(tmp_path, enable_management_endpoints=True, api_key="k") as server:
        assert (await server.client.get(_PATH)).status_code == 401
        assert (await server.client.delete("/v1/workers/1")).status_code == 401


@pytest.mark.parametrize(("number", "status"), [(1, 202), (2, 404)])
async def test_one_worker_is_stopped(tmp_path: Path, number: int, status: int) -> None:
    asked: Counter[int] = Counter()

    def stop(worker: int) -> bool:
        asked[worker] += 1
        return worker == 1

    async with rest_server(tmp_path, enable_management_endpoints=True) as server:
        assert (await server.client.delete(f"/v1/workers/{number}")).status_code == 404
        server.services.stop_worker = stop
        assert (await server.client.delete(f"/v1/workers/{number}")).status_code == status
    assert asked == {number: 1}
