"""The metrics of tenants, from a real Redis that jobkit's own code fills."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from docling_serve.engines.base import HasCollector
from tests.helpers.ray_engines import ray_engine, require_ray
from tests.helpers.redis_server import RedisServer
from tests.helpers.rq_engines import TENANT, markdown, packed_result

require_ray()

from docling_serve.engines.ray.engine import RayEngine  # noqa: E402
from docling_serve.internals.jobkit_rq import unpacked  # noqa: E402


def page(engine: RayEngine) -> dict[str, float]:
    """What is told of the tenant of these tests."""
    registry = CollectorRegistry()
    registry.register(engine.collector)
    label = f'{{tenant_id="{TENANT}"}} '
    lines = generate_latest(registry).decode().splitlines()
    told = [line.split(label) for line in lines if label in line]
    return {name.removeprefix("docling_ray_tenant_"): float(value) for name, value in told}


async def test_a_tenants_tasks_are_counted(redis_server: RedisServer) -> None:
    engine = ray_engine(redis_server.url)
    assert isinstance(engine, HasCollector)
    await engine.state.connect()
    assert page(engine) == {}

    done = await engine.submit(markdown())
    await engine.submit(markdown())
    await engine.state.dispatch_task_atomic(TENANT, done.task_id, 1)
    await engine.collector.read()
    told = page(engine)
    assert (told["tasks_enqueued_total"], told["tasks_dispatched_total"]) == (2.0, 1.0)
    assert (told["queued_tasks"], told["active_tasks"]) == (1.0, 1.0)

    result = unpacked(packed_result())
    await engine.state.finalize_task_success_atomic(TENANT, done.task_id, 1, result)
    await engine.collector.read()
    told = page(engine)
    assert (told["tasks_succeeded_total"], told["tasks_failed_total"]) == (1.0, 0.0)
    assert (told["queued_tasks"], told["active_tasks"]) == (1.0, 0.0)
    await engine.close()


async def test_it_is_read_for_as_long_as_it_is_followed(redis_server: RedisServer) -> None:
    engine = ray_engine(redis_server.url, eng_ray_tenant_metrics_refresh_interval=0.01)
    await engine.state.connect()
    following = asyncio.create_task(engine.collector.follow())
    await engine.submit(markdown())
    while not page(engine):  # noqa: ASYNC110 - a scrape is no event
        await asyncio.sleep(0.01)
    following.cancel()
    await engine.close()


async def test_without_redis_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    engine = ray_engine("redis://127.0.0.1:1/")
    await engine.collector.read()
    assert page(engine) == {}
    await engine.close()
    assert "cannot be asked for the metrics of tenants" in caplog.text
