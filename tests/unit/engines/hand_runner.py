"""A local engine whose tasks are run by the test's hand instead of by workers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.targets import InBodyTarget

from docling_serve.engines.base import Submission, TaskView, Upload
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.local.journal import Journal
from docling_serve.engines.local.rules import LocalRules
from docling_serve.engines.local.staging import Deployment
from docling_serve.errors import Failure
from docling_serve.jobs.run_request import RunRequest
from docling_serve.jobs.spec import JobResult, TaskFolder
from tests.helpers.loops import PATIENCE_S, turns

REPLY = b"the reply"


class HandRunner:
    """Takes what it is handed, starts at most ``slots`` tasks, ends each when told to."""

    def __init__(self, slots: int = 1) -> None:
        self.handed: list[str] = []
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.requests: dict[str, RunRequest] = {}
        self._slots = asyncio.Semaphore(slots)
        self._ends: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, request: RunRequest) -> JobResult:
        task_id = request.spec.task_id
        self.handed.append(task_id)
        self.requests[task_id] = request
        try:
            async with self._slots:
                request.listeners.on_started()
                self.started.append(task_id)
                await self._end(task_id)
                return self._reply(request.folder)
        except asyncio.CancelledError:
            self.cancelled.append(task_id)
            raise

    def end(self, task_id: str, error: BaseException | None = None) -> None:
        """Let a task end, now or as soon as it starts."""
        if error is None:
            self._end(task_id).set_result(None)
        else:
            self._end(task_id).set_exception(error)

    def _end(self, task_id: str) -> asyncio.Future[None]:
        return self._ends.setdefault(task_id, asyncio.get_running_loop().create_future())

    @staticmethod
    def _reply(folder: TaskFolder) -> JobResult:
        folder.body.write_bytes(REPLY)
        return JobResult(
            body=folder.body.name, media_type="text/plain", processing_time=0.1, num_succeeded=1
        )


@contextlib.asynccontextmanager
async def opened(
    folders: Path,
    runner: Any,
    *,
    journal: Journal | None = None,
    disk: Disk | None = None,
    on_callback: Any = lambda *_: None,
    clear_converters: Any = None,
    converter_config: dict[str, Any] | None = None,
    **rules: Any,
) -> AsyncIterator[LocalEngine]:
    """An engine that hands its tasks to ``runner``, closed at the end."""

    async def clear() -> None:
        pass

    engine = LocalEngine(
        runner,
        LocalRules(deployment=Deployment(converter_config or {}), **rules),
        folders,
        journal,
        disk=disk,
        on_callback=on_callback,
        clear_converters=clear_converters or clear,
    )
    await engine.recover()
    queue = asyncio.create_task(engine.process_queue())
    try:
        yield engine
    finally:
        await asyncio.wait_for(engine.close(), PATIENCE_S)
        queue.cancel()
        await asyncio.wait({queue})


def left_in(folder: Path) -> list[str]:
    """The names of what is in ``folder``."""
    return sorted(path.name for path in folder.iterdir())


def submission(name: str = "a.md", text: bytes = b"# a", **more: Any) -> Submission:
    """One uploaded document."""
    defaults: dict[str, Any] = {
        "sources": [Upload(name, io.BytesIO(text))],
        "options": ConvertDocumentsOptions(),
        "targets": [InBodyTarget()],
    }
    return Submission(**{**defaults, **more})


async def submit(engine: LocalEngine, count: int, **more: Any) -> list[str]:
    """Submit ``count`` tasks; their ids, in order, once the first ones were handed over."""
    views = [await engine.submit(submission(**more)) for _ in range(count)]
    await turns(5)
    return [view.task_id for view in views]


async def finished(engine: LocalEngine, task_id: str, tenant: str = "default") -> TaskView:
    """The task once it has ended."""
    view = await engine.wait_finished(task_id, tenant, PATIENCE_S)
    assert view.finished, "it waits for ever"
    return view


@contextlib.asynccontextmanager
async def busy_threads() -> AsyncIterator[threading.Event]:
    """The loop's default executor has no thread to spare until the yielded event is set."""
    release = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    blocking = asyncio.ensure_future(asyncio.to_thread(release.wait))
    await turns(2)
    try:
        yield release
    finally:
        release.set()
        await blocking


CAUSE = Failure("policy", "Nobody waits any more.")


async def statuses(engine: LocalEngine, task_ids: list[str]) -> list[str]:
    return [(await engine.view(task_id)).status.value for task_id in task_ids]


async def positions(engine: LocalEngine, task_ids: list[str]) -> list[int | None]:
    return [(await engine.view(task_id)).position for task_id in task_ids]
