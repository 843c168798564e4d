"""The recorded sessions of the status websocket, and fifty watchers of a real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from tests.contract.documented import is_documented
from tests.contract.recordings import STAGE_FIELDS, recording, unlike_json
from tests.helpers.api import upload
from tests.helpers.asgi_websocket import AsgiWebsocket
from tests.helpers.documents import scanned_pdf
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rest_server import RestServer, rest_server
from tests.helpers.server import RunningServer

QUEUED, FINISHED, UNKNOWN, NO_KEY, WITH_KEY = recording("09")["sessions"]
KEY = {"X-Api-Key": "secret"}
WATCHERS = 50


def differences(session: dict[str, Any], told: list[Any]) -> list[str]:
    """Where ``told`` differs from the recorded messages, apart from progress and stages, which
    come in additional updates too."""
    assert is_documented("progress")
    assert is_documented("stages")
    kept: list[Any] = []
    for message in told:
        if message.get("task"):
            message["task"]["task_meta"] = None
            for field in STAGE_FIELDS:
                del message["task"][field]
        if kept[-1:] != [message]:
            kept.append(message)
    return unlike_json(session["received"], kept)


async def submit(server: RestServer) -> str:
    reply = await server.client.post(
        "/v1/convert/file/async", files=[("files", ("a.md", b"# T"))], headers=KEY
    )
    task_id: str = reply.json()["task_id"]
    return task_id


async def sessions_of(server: RestServer, task_id: str, query: str = "") -> list[Any]:
    async with AsgiWebsocket(server.app, f"/v1/status/ws/{task_id}?{query}") as socket:
        return await socket.rest()


async def test_queued_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        await submit(server)
        await server.runner.begun.get()
        await submit(server)
        task_id = await submit(server)
        async with AsgiWebsocket(server.app, f"/v1/status/ws/{task_id}") as socket:
            told = [await socket.next(), await socket.next()]
            server.runner.gate.set()
            told += await socket.rest()
    assert differences(QUEUED, told) == []


async def test_finished_and_unknown_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        task_id = await submit(server)
        await server.engine.wait_finished(task_id, "default", PATIENCE_S)
        assert differences(FINISHED, await sessions_of(server, task_id)) == []
        assert differences(UNKNOWN, await sessions_of(server, "unknown")) == []


async def test_with_a_key(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        task_id = await submit(server)
        await server.engine.wait_finished(task_id, "default", PATIENCE_S)
        (refused,) = await sessions_of(server, task_id)
        (recorded,) = NO_KEY["received"]
        assert {"handshake_status": refused["refused"], "json": refused["json"]} == recorded
        told = await sessions_of(server, task_id, "api_key=secret")
        assert differences(WITH_KEY, told) == []


async def test_fifty_watchers_of_a_real_conversion(recorded_server: RunningServer) -> None:
    form = {
        "layout_custom_config": '{"kind": "full_page"}',
        "ocr_preset": "rapidocr",
        "do_table_structure": "false",
    }
    api = recorded_server.api
    task_id = await asyncio.to_thread(api.submit, upload("scan.pdf", scanned_pdf()), form=form)
    url = f"ws://127.0.0.1:{recorded_server.port}/v1/status/ws/{task_id}"

    async def watch() -> tuple[list[dict[str, Any]], int | None]:
        async with connect(url, proxy=None) as socket:
            told = [json.loads(message) async for message in socket]
            return told, socket.close_code

    for told, code in await asyncio.gather(*(watch() for _ in range(WATCHERS))):
        assert [message["message"] for message in told[:2]] == ["connection", "update"]
        assert {message["message"] for message in told[2:]} <= {"update"}
        statuses = [message["task"]["task_status"] for message in told]
        order = ["pending", "started", "success"]
        assert statuses == sorted(statuses, key=order.index)
        assert (statuses[-1], statuses[:-1].count("success"), code) in [
            ("success", 0, 1000),
            ("success", 1, 1000),  # whoever came late: told twice, as the recorded ones
        ]
