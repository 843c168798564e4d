"""The metrics page, and what the metrics read from the engine and the workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from docling_jobkit.datamodel.task import Task
from docling_jobkit.orchestrators.base_orchestrator import OrchestratorError
from fastapi import APIRouter, FastAPI
from fastapi.responses import Response

from docling_serve.api.services import Services
from docling_serve.engines.base import TellsEnds
from docling_serve.observability.metrics import CONTENT_TYPE, Load, Metrics


def make_router(metrics: Metrics) -> APIRouter:
    """The page, which needs no key (contract: behaviour C21)."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def show_metrics() -> Response:
        return Response(await asyncio.to_thread(metrics.page), media_type=CONTENT_TYPE)

    return router


@asynccontextmanager
async def measuring(app: FastAPI, metrics: Metrics) -> AsyncIterator[None]:
    """While the app runs: count its tasks, and read its load at every scrape.

    Raises:
        OSError: the additional port is taken.
    """
    services: Services = app.state.services

    async def read() -> Load:
        return await _load(services)

    if isinstance(services.engine, TellsEnds):
        services.engine.on_ended = lambda task: _count(metrics, task)
    with metrics.observing(read):
        yield


async def _load(services: Services) -> Load:
    try:
        waiting = await services.engine.queue_size()
    except OrchestratorError:  # the queue cannot be reached; the workers still can
        waiting = 0
    workers = services.describe_workers()["workers"] if services.describe_workers else []
    return Load(
        waiting=waiting,
        workers=Counter(worker["state"] for worker in workers),
        rss_bytes=sum(worker["rss_bytes"] for worker in workers),
        vram_bytes=sum(worker["vram_bytes"] or 0 for worker in workers),
    )


def _count(metrics: Metrics, task: Task) -> None:
    ended = task.finished_at or task.last_update_at
    started = task.started_at or ended
    metrics.task_ended(
        task.task_type.value,
        task.failure.category.value if task.failure else "success",
        waited_s=(started - task.created_at).total_seconds(),
        worked_s=(ended - started).total_seconds(),
    )
