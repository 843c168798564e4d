"""A task always comes to an end, whenever it is cancelled."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.targets import InBodyTarget

from docling_serve.engines.base import Submission, TaskView, Upload
from docling_serve.errors import Failure
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rest_server import RestServer, rest_server

ASKED = Failure("policy", "asked to")


async def submit(server: RestServer) -> str:
    upload = Upload("a.md", io.BytesIO(b"# T"))
    view = await server.engine.submit(
        Submission([upload], ConvertDocumentsOptions(), [InBodyTarget()])
    )
    return view.task_id


async def cancel(server: RestServer, task_id: str) -> TaskView:
    return await server.engine.cancel(task_id, "default", ASKED)


def test_cancelled_between_hand_over_and_first_step(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rest_server(tmp_path) as server:
            task_id = await submit(server)
            # One step of the queue: the task is handed over, its own coroutine has not begun.
            await asyncio.sleep(0)
            assert server.engine._records[task_id].runner is not None
            assert server.runner.jobs == []
            view = await cancel(server, task_id)
            assert (view.status, view.failure) == ("failure", ASKED)
            assert server.runner.jobs == []
            after = await server.engine.wait_finished(await submit(server), "default", PATIENCE_S)
            assert after.status == "success", "the runner's hand is free again"

    asyncio.run(scenario())


def test_cancelled_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rest_server(tmp_path, closed=True) as server:
            task_id = await submit(server)
            await server.runner.begun.get()
            views = await asyncio.gather(*(cancel(server, task_id) for _ in range(2)))
            await asyncio.sleep(0)
            assert [view.status for view in views] == ["failure", "failure"]

    asyncio.run(scenario())
