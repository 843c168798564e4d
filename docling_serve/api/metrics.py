"""The metrics page, and what the metrics read from the engine and the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response

from docling_serve.api.services import Services
from docling_serve.engines.base import (
    DEFAULT_TENANT,
    HasCollector,
    HasResultCache,
    TaskView,
    TellsEnds,
    TellsQueueAge,
)
from docling_serve.observability.load import Isolation, Load
from docling_serve.observability.metrics import CONTENT_TYPE, Metrics


def make_router(metrics: Metrics) -> APIRouter:
    """The page, which needs no key (upstream C21)."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def show_metrics() -> Response:
        return Response(await asyncio.to_thread(metrics.page), media_type=CONTENT_TYPE)

    return router


@asynccontextmanager
async def measuring(app: FastAPI, metrics: Metrics) -> AsyncIterator[None]:
    """While the app runs, count its tasks, and read its load at every scrape.

    Raises:
        OSError: the additional port is taken.
    """
    services: Services = app.state.services

    async def read() -> Load:
        return await _load(services)

    if isinstance(services.engine, TellsEnds):
        services.engine.on_ended = lambda view: _count(metrics, services, view)
    own = services.engine.collector if isinstance(services.engine, HasCollector) else None
    with metrics.observing(read, own):
        yield


async def _load(services: Services) -> Load:
    capacity = await services.capacity(DEFAULT_TENANT)
    describe = services.describe_workers if services.workers_here else None
    lines = [line for line in (capacity.heavy, capacity.light) if line] if capacity else []
    return Load(
        await services.waiting(),
        _oldest_wait_s(services),
        sum(line.running for line in lines) if capacity else None,
        _isolation(describe()) if describe else None,
        await services.read_gpus() if services.read_gpus else (),
        *_cache(services),
    )


def _cache(services: Services) -> tuple[int | None, dict[str, int]]:
    """The bytes of kept results, and the look-ups by their outcome."""
    engine = services.engine
    use = engine.cache_use if isinstance(engine, HasResultCache) else None
    if use is None:
        return None, {}
    return use.bytes, {"hit": use.hits, "miss": use.misses}


def _oldest_wait_s(services: Services) -> float | None:
    if not isinstance(services.engine, TellsQueueAge):
        return None
    since = services.engine.waiting_since
    return 0.0 if since is None else max(0.0, time.time() - since)


def _isolation(pool: dict[str, Any]) -> Isolation:
    workers, sums, admission = pool["workers"], pool["metrics"], pool["admission"]
    vram = [w["vram_bytes"] for w in workers if w["vram_bytes"] is not None]
    template = pool["template"]
    return Isolation(
        workers=pool["by_state"],
        rss_bytes=sum(worker["rss_bytes"] for worker in workers),
        standby_rss_bytes=sum(w["rss_bytes"] for w in workers if w["state"] == "standby"),
        template_rss_bytes=template["rss_bytes"] if template else None,
        vram_bytes=sum(vram) if vram else None,
        peak_rss_bytes=sums["peak_rss_bytes"],
        peak_vram_bytes=sums["peak_vram_bytes"],
        started=sums["workers_started"],
        stopped=sums["stops"],
        lost=sums["losses"],
        retries=sums["retries"],
        overhead_s=sums["overhead_by_part"],
        lookups={"hit": sums["converter_hits"], "miss": sums["converter_misses"]},
        onnx_fallbacks=sums["onnx_fallbacks"],
        evictions=admission["evictions"],
        admission_waits=admission["waits"],
        admission_wait_s=admission["wait_seconds"],
        overcommitted=admission["overcommitted"],
    )


def _count(metrics: Metrics, services: Services, view: TaskView) -> None:
    assert view.created_at is not None
    assert view.finished_at is not None
    started = view.started_at or view.finished_at
    outcome = view.failure.category if view.failure else "success"
    services.outcomes[outcome] += 1
    if view.result is not None and view.result.num_failed:
        services.outcomes["documents_failed"] += view.result.num_failed
    metrics.task_ended(
        view.task_type.value,
        outcome,
        waited_s=(started - view.created_at).total_seconds(),
        worked_s=(view.finished_at - started).total_seconds(),
        pages=view.result.num_pages if view.result else 0,
    )
