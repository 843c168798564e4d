"""A result is a file, which may be removed while somebody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError
from fastapi import Response
from fastapi.responses import FileResponse

from docling_serve.api.task_flow import read_now, result_response
from docling_serve.engines.base import Reply


async def answer(path: Path) -> Response:
    """What the API answers for a finished task whose result is at ``path``."""

    async def reply(*_: str) -> Reply:
        return Reply(media_type="application/json", path=path)

    async def fetched(_: str) -> None:
        return None

    services: Any = SimpleNamespace(engine=SimpleNamespace(reply=reply, on_result_fetched=fetched))
    view: Any = SimpleNamespace(task_id="t", cache=None)
    return await result_response(services, view, "default")


async def body_of(response: Response) -> bytes:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return await asyncio.get_running_loop().create_future()  # the client stays

    scope = {"type": "http", "method": "GET", "headers": [], "extensions": {}}
    await response(scope, receive, send)
    length = dict(sent[0]["headers"])[b"content-length"]
    body = b"".join(message.get("body", b"") for message in sent)
    assert int(length) == len(body)
    return body


@pytest.mark.parametrize("size", [0, 10, 65_536, 65_537, 200_000])
async def test_a_result_that_goes_meanwhile_still_arrives_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "result.body"
    path.write_bytes(b"x" * size)
    response = await answer(path)
    path.unlink()

    assert await body_of(response) == b"x" * size


async def test_a_large_result_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "result.body"
    path.write_bytes(b"x" * 200_000)

    assert isinstance(await answer(path), FileResponse)


async def test_a_result_that_is_gone_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(TaskNotFoundError):
        await answer(tmp_path / "result.body")


def test_a_small_file_in_the_page_cache_is_read_without_a_thread(tmp_path: Path) -> None:
    path = tmp_path / "result.body"
    path.write_bytes(b"reply")

    assert read_now(path, 5) in (b"reply", None)  # None: a file system that cannot tell
    assert read_now(path, 4) is None
    assert read_now(path, 0) is None
    with pytest.raises(FileNotFoundError):
        read_now(tmp_path / "gone", 5)
