"""Requests with a key create one task, whichever gateways they reach."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import redis

from docling_serve.engines.redis import keys
from docling_serve.errors import KeyReused
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rq_engines import TENANT, JobkitWorker, gateway, markdown

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KEY = {"idempotency_key": "order 7"}


async def test_a_request_that_is_repeated_creates_one_task(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as here, gateway(redis_url) as there:
        views = await asyncio.gather(
            *(engine.submit(markdown(**KEY)) for engine in (here, there) for _ in range(4))
        )
        (task_id,) = {view.task_id for view in views}
        assert {view.status for view in views} == {"pending"}
        assert worker.redis.llen("rq:queue:convert") == 1
        other = await there.submit(markdown(tenant="acme", **KEY))
        assert other.task_id != task_id, "a key belongs to its tenant"

        with pytest.raises(KeyReused):
            await there.submit(markdown("# Another", **KEY))
        worker.succeed(worker.take())
        assert (await here.submit(markdown(**KEY))).status == "success"


async def test_a_repeated_request_waits_until_the_first_has_queued_its_task(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(redis_url) as here, gateway(redis_url) as there:
        stored, looked, queue_it = threading.Event(), asyncio.Event(), threading.Event()
        put, exists = here._jobs.put, there._keys._exists

        def put_later(*arguments: Any) -> None:
            stored.set()
            queue_it.wait(PATIENCE_S)
            put(*arguments)

        async def look(task_id: str) -> bool:
            known = await exists(task_id)
            looked.set()
            return known

        monkeypatch.setattr(here._jobs, "put", put_later)
        monkeypatch.setattr(there._keys, "_exists", look)
        first = asyncio.ensure_future(here.submit(markdown(**KEY)))
        await asyncio.to_thread(stored.wait, PATIENCE_S)
        repeated = asyncio.ensure_future(there.submit(markdown(**KEY)))
        await asyncio.wait_for(looked.wait(), PATIENCE_S)
        queue_it.set()
        view = await repeated
        assert view.task_id == (await first).task_id
        assert (view.status, view.failure) == ("pending", None)


async def test_a_task_whose_job_is_gone_does_not_keep_its_key(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        gone = (await engine.submit(markdown(**KEY))).task_id
        worker.redis.delete(f"rq:job:{gone}")
        view = await engine.submit(markdown(**KEY))
        assert view.task_id != gone
        assert view.status == "pending"


async def test_a_key_is_free_once_its_task_is_gone(redis_url: str) -> None:
    async with gateway(redis_url) as engine:
        first = (await engine.submit(markdown(**KEY))).task_id
        await engine.delete(first, TENANT)
        assert (await engine.submit(markdown("# Another", **KEY))).task_id != first


async def test_a_key_is_free_if_its_task_could_not_be_queued(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(redis_url) as engine:

        def full(*_: object) -> None:
            raise redis.ResponseError("OOM command not allowed")

        with monkeypatch.context() as patch:
            patch.setattr(engine._jobs, "put", full)
            with pytest.raises(Exception, match="Redis"):
                await engine.submit(markdown(**KEY))
        assert (await engine.submit(markdown("# Another", **KEY))).status == "pending"


async def test_a_gateway_is_lost_before_it_has_created_the_task(
    redis_url: str, worker: JobkitWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(redis_url) as engine:
        await engine._keys.claim(TENANT, "order 7", "print", "never created")
        monkeypatch.setattr(keys, "_CREATES_WITHIN_S", 0.0)
        view = await engine.submit(markdown(**KEY))
        assert view.status == "pending"
        assert (await engine.submit(markdown(**KEY))).task_id == view.task_id
