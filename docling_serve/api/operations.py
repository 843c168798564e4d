"""What operators watch: memory by process, the queue and the GPUs, second by second.

A sampler keeps the last ten minutes, so that a newly opened page shows the recent past. The stream
sends those first, then each new sample. The same access rules apply as for other management routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psutil
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant
from docling_serve.api.management import require_open, visible_workers
from docling_serve.api.services import Services
from docling_serve.observability.load import GpuMemory

SAMPLE_S = 1.0
_KEPT = 600

router = APIRouter(
    prefix="/v1", tags=["management"], dependencies=[Depends(require_open), RequireApiKey]
)


class Operations:
    """Samples of the last ten minutes, and the newest one for those who watch."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._process = psutil.Process()
        self._changed = asyncio.Event()
        self._watchers = 0
        self._gpus: Sequence[GpuMemory] = ()
        self.samples: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        """Take a sample each second."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def sample(self) -> None:
        """Take a sample now. The GPU driver is read only while a client watches: an open handle
        keeps a GPU awake."""
        read_gpus = self._services.read_gpus
        watched = read_gpus is not None and self._watchers > 0
        self._gpus = await read_gpus() if read_gpus is not None and watched else ()
        describe = self._services.describe_workers
        pool = describe() if describe is not None else {"workers": [], "template": None}
        workers, template = pool["workers"], pool["template"]
        self.samples.append(
            {
                "at": round(time.time(), 1),
                "server": self._process.memory_info().rss,
                "template": template["rss_bytes"] if template else 0,
                "workers": [
                    {key: worker[key] for key in ("number", "state", "rss_bytes", "task_id")}
                    for worker in workers
                ],
                "gpu": _gpu_sums(self._gpus, workers),
            }
        )
        self._changed.set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While a client watches, GPUs are read too."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def changed(self) -> None:
        """Wait for the next sample, or for the end of the server's streams."""
        waits = [
            asyncio.ensure_future(self._changed.wait()),
            asyncio.ensure_future(self._services.stopping.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def snapshot(self, tenant: str) -> dict[str, Any]:
        """The current sample, for an operator's page."""
        services = self._services
        capacity = await services.capacity(tenant)
        return {
            "sample": self.samples[-1] if self.samples else None,
            "pool": visible_workers(services),
            "capacity": capacity_of(capacity),
            "waiting": await services.waiting(),
            "outcomes": dict(services.outcomes),
            "gpus": [vars(gpu) for gpu in self._gpus],
            "subprocess_mode": services.describe_workers is not None,
        }


@asynccontextmanager
async def sampling(app: FastAPI) -> AsyncIterator[None]:
    """While the app runs, sample, if the settings enable both the page and its management part."""
    services: Services = app.state.services
    operations = app.state.operations = Operations(services)
    settings = services.settings
    if not (settings.enable_management_endpoints and settings.enable_ui):
        yield
        return
    running = asyncio.create_task(operations.run())
    try:
        yield
    finally:
        running.cancel()


@router.get("/workers/events", response_class=EventSourceResponse)
async def worker_events(
    request: Request, services: ServicesDep, tenant: Tenant
) -> AsyncIterator[ServerSentEvent]:
    """The workers, the queue and the GPUs as server-sent events: `history`, the samples of the last
    ten minutes where the server keeps them, then a `snapshot` each second. Sizes are bytes, `at`
    is seconds since 1970."""
    operations: Operations = request.app.state.operations
    async with operations.watched():
        yield ServerSentEvent(data=list(operations.samples), event="history")
        while not services.stopping.is_set():
            await _fresh(operations)
            yield ServerSentEvent(data=await operations.snapshot(tenant), event="snapshot")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(operations.changed(), 2 * SAMPLE_S)


async def _fresh(operations: Operations) -> None:
    """Where no sampler runs, the watching clients take the samples."""
    newest = operations.samples[-1]["at"] if operations.samples else 0.0
    if time.time() - newest >= 2 * SAMPLE_S or not operations.samples:
        await operations.sample()


@router.delete("/workers/{number}", status_code=202)
async def stop_worker(services: ServicesDep, number: int) -> dict[str, int]:
    """Stop a worker process. The task it has is cancelled; its memory is freed once it has exited.

    Raises:
        HTTPException: 404, there is no such worker.
    """
    if services.stop_worker is None or not services.stop_worker(number):
        raise HTTPException(404, "There is no such worker.")
    return {"number": number}


def capacity_of(capacity: Any) -> dict[str, Any] | None:
    """The heavy line, the light line and the available room, as plain data."""
    if capacity is None:
        return None
    return {
        **vars(capacity.heavy),
        "room": capacity.room,
        "light": vars(capacity.light) if capacity.light else None,
    }


def _gpu_sums(gpus: Sequence[GpuMemory], workers: list[dict[str, Any]]) -> dict[str, int] | None:
    """Bytes held by our workers, bytes held by other programs, and the total; None without a GPU
    whose figures are known."""
    if not gpus:
        return None
    total = sum(gpu.total_bytes for gpu in gpus)
    used = sum(gpu.used_bytes for gpu in gpus)
    ours = min(used, sum(worker["vram_bytes"] or 0 for worker in workers))
    return {"ours": ours, "others": used - ours, "total": total}
