"""Cancelling tasks of the rq engine."""

from __future__ import annotations

import asyncio
import json

import pytest
from docling_jobkit.orchestrators.base_orchestrator import (
    TaskNotFoundError,
)

from docling_serve.errors import CANCELLED
from docling_serve.internals import jobkit_rq
from tests.helpers.rq_engines import (
    TENANT,
    JobkitWorker,
    gateway,
    heard,
    markdown,
)
from tests.unit.engines.rq.gateways import ASKED, CALLBACK, Event, follow

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def test_a_waiting_task_is_taken_out_of_the_queue(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as here, gateway(redis_url) as there:
        task_id = (await here.submit(markdown())).task_id
        waiting = asyncio.ensure_future(there.wait_finished(task_id, TENANT, 60))
        view = await here.cancel(task_id, TENANT, ASKED)
        assert (view.status, view.failure, view.position) == ("failure", ASKED, None)
        assert view.finished_at is not None
        assert await waiting == view
        assert worker.redis.llen("rq:queue:convert") == 0
        assert not worker.redis.exists(f"rq:job:{task_id}")
        assert await here.cancel(task_id, TENANT, CANCELLED) == view, "it has ended once"


async def test_the_callbacks_of_a_task_that_no_worker_had_hear_of_its_end(redis_url: str) -> None:
    told: list[Event] = []
    async with gateway(redis_url, on_callback=lambda *event: told.append(event)) as engine:
        cancelled = await engine.submit(markdown(callbacks=[CALLBACK]))
        await engine.cancel(cancelled.task_id, TENANT, ASKED)
        deleted = await engine.submit(markdown(callbacks=[CALLBACK]))
        await engine.delete(deleted.task_id, TENANT)
        await engine.delete((await engine.submit(markdown())).task_id, TENANT)
    assert [task_id for task_id, _, _ in told] == [cancelled.task_id, deleted.task_id]
    assert all(callbacks == [CALLBACK] for _, callbacks, _ in told)
    assert {event["task_status"] for _, _, event in told} == {"failure"}


async def test_the_worker_of_a_running_task_is_told_to_stop(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.take()

        async def cancel() -> None:
            view = await engine.cancel(task_id, TENANT, ASKED)
            assert view.failure == ASKED

        (told,) = await heard(redis_url, "rq:pubsub:jobkit-worker", cancel)
        assert json.loads(told) == {"command": "stop-job", "job_id": task_id}
        worker.succeed(task_id)
        assert (await engine.view(task_id)).failure == ASKED, "what was said stays"


async def test_a_deleted_task_is_gone(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        done = (await engine.submit(markdown())).task_id
        worker.succeed(worker.take())
        waits = (await engine.submit(markdown())).task_id
        assert (await engine.delete(done, TENANT)).status == "success"
        assert (await engine.delete(waits, TENANT)).failure == CANCELLED
        for task_id in (done, waits):
            with pytest.raises(TaskNotFoundError):
                await engine.view(task_id)
            assert not [key for key in worker.redis.scan_iter() if task_id.encode() in key]


async def test_a_task_that_a_worker_takes_while_it_is_deleted(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        waiting = await engine._find(task_id, TENANT)
        worker.take()
        assert (await engine._delete(waiting)).failure == CANCELLED
        assert worker.redis.hexists(jobkit_rq.detail_key(task_id), jobkit_rq.FAILURE), "so it stops"
        worker.succeed(task_id)
        with pytest.raises(TaskNotFoundError):
            await engine.view(task_id)


async def test_a_task_of_which_only_rqs_last_words_are_left(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.redis.delete(jobkit_rq.metadata_key(task_id), f"rq:job:{task_id}")
        worker.redis.hset(f"rq:job:{task_id}", mapping={"status": "started", "origin": "x"})
        with pytest.raises(TaskNotFoundError):
            await engine.view(task_id)


async def test_a_running_task_is_hidden_once_deleted(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.take()
        async with engine.watch(task_id) as watch:
            assert (await engine.delete(task_id, TENANT)).failure == CANCELLED
            assert (await follow(watch))[-1][0] == "failure"
        worker.succeed(task_id)
        with pytest.raises(TaskNotFoundError):
            await engine.view(task_id)


async def test_every_worker_is_asked_to_clear(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        worker.redis.sadd("rq:workers:convert", "rq:worker:one")
        (told,) = await heard(redis_url, "rq:pubsub:one", engine.clear_converters)
        assert json.loads(told) == {"command": jobkit_rq.CLEAR_COMMAND}
        (job_id,) = worker.redis.lrange("rq:queue:convert", 0, -1)
        assert worker.job(job_id.decode()).func_name == jobkit_rq.CLEAR_FUNCTION
