"""Failures of tasks, and of Redis, as the rq engine tells them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
)

from docling_serve.engines.rq.engine import WORKER_LOST
from docling_serve.engines.rq.reaper import ReaperTimes
from docling_serve.errors import Failure
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.spec import JobProgress
from tests.helpers.loops import PATIENCE_S
from tests.helpers.redis_server import RedisServer
from tests.helpers.rq_engines import (
    TENANT,
    JobkitWorker,
    gateway,
    markdown,
    packed_result,
    rq_settings,
)
from tests.unit.engines.rq.gateways import ASKED, CALLBACK, Event, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# ---- failures ------------------------------------------------------------------------------------


async def test_what_jobkits_worker_says_of_a_failure_is_kept(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as here:
        task_id = (await here.submit(markdown())).task_id
        worker.fail(worker.take(), "Source document could not be reached.")
        failed = await here.wait_finished(task_id, TENANT, 60)
        await until(lambda: worker.redis.hexists(jobkit_rq.detail_key(task_id), jobkit_rq.FAILURE))
    async with gateway(redis_url) as later:
        assert (await later.view(task_id)).failure == Failure(
            "internal", "Source document could not be reached."
        )
    assert failed.status == "failure"


async def test_what_our_worker_says_of_a_failure_is_kept(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        progress = JobProgress(phase="process", completed_pages=2)
        detail = jobkit_rq.detail_key(task_id)
        worker.redis.hset(detail, jobkit_rq.FAILURE, jobkit_rq.dump_failure(ASKED))
        worker.redis.hset(detail, jobkit_rq.PROGRESS, progress.model_dump_json())
        view = await engine.view(task_id)
        assert (view.status, view.failure, view.progress) == ("failure", ASKED, progress)


async def test_a_task_whose_job_was_lost_says_so(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.redis.delete(f"rq:job:{task_id}")
        view = await engine.view(task_id)
        assert view.status == "failure"
        assert view.failure is not None
        assert "gone from Redis" in view.failure.message
        assert view.failure.retryable


async def test_the_task_of_a_lost_worker_ends(redis_url: str, worker: JobkitWorker) -> None:
    times = ReaperTimes(look_every_s=0.01, missing_for_s=0.0)
    once = {"eng_rq_max_attempts": 1}
    async with gateway(redis_url) as here, gateway(redis_url, times, **once):
        task_id = (await here.submit(markdown())).task_id
        alive = jobkit_rq.heartbeat_key(worker.config, task_id)
        worker.redis.set(alive, "1")
        worker.take()
        waiting = asyncio.ensure_future(here.wait_finished(task_id, TENANT, 60))
        worker.redis.delete(alive)
        assert (await waiting).failure == WORKER_LOST
        job = worker.job(task_id)
        await until(lambda: job.id not in job.started_job_registry.get_job_ids())
        assert job.get_status() == "failed"
        assert worker.redis.ttl(job.key) > 0, "it does not stay for ever"


async def test_another_worker_gets_the_task_of_a_lost_one(
    redis_url: str, worker: JobkitWorker
) -> None:
    times = ReaperTimes(look_every_s=0.01, missing_for_s=0.0)
    async with gateway(redis_url, times) as here, gateway(redis_url, times):
        task_id = (await here.submit(markdown())).task_id
        later = (await here.submit(markdown())).task_id
        key = jobkit_rq.detail_key(task_id)
        for attempt in (1, 2):
            assert worker.take() == task_id, "it is the first again"
            await until(lambda n=attempt: worker.redis.hget(key, "losses") == b"%d" % n)
            view = await here.view(task_id)
            assert (view.status, view.position, view.started_at) == ("pending", 1, None)
        assert worker.take() == task_id
        assert (await here.wait_finished(task_id, TENANT, 60)).failure == WORKER_LOST
        assert worker.take() == later


async def test_the_callbacks_of_a_lost_task_hear_of_its_end_once(
    redis_url: str, worker: JobkitWorker
) -> None:
    times = ReaperTimes(look_every_s=0.01, missing_for_s=0.0)
    told: list[Event] = []

    def tell(*event: Any) -> None:
        told.append(event)

    async with (
        gateway(redis_url, times, tell, eng_rq_max_attempts=1) as here,
        gateway(redis_url, times, tell, eng_rq_max_attempts=1),
    ):
        task_id = (await here.submit(markdown(callbacks=[CALLBACK]))).task_id
        job = worker.job(worker.take())
        await until(lambda: job.id not in job.started_job_registry.get_job_ids())
        await here.wait_finished(task_id, TENANT, 60)
    ((told_id, callbacks, event),) = told
    assert (told_id, callbacks) == (task_id, [CALLBACK])
    assert (event["kind"], event["task_status"]) == ("task_completed", "failure")
    assert event["failure"]["details"] == {"reason": "worker_lost"}


async def test_a_worker_lost_after_its_work_has_done_it(
    redis_url: str, worker: JobkitWorker
) -> None:
    times = ReaperTimes(look_every_s=0.01, missing_for_s=0.0)
    async with gateway(redis_url, times) as engine:
        task_id = (await engine.submit(markdown())).task_id
        # The result before the job is seen as started: its worker shows no sign of life.
        worker.redis.set(jobkit_rq.result_key(worker.config, task_id), packed_result())
        job = worker.job(worker.take())
        await until(lambda: job.id not in job.started_job_registry.get_job_ids())
        assert job.get_status() == "finished"
        assert (await engine.view(task_id)).status == "success"


# ---- Redis is away -------------------------------------------------------------------------------


async def test_without_redis_requests_are_told_to_come_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        async with gateway(server.url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            await engine.check_connection()
            await asyncio.gather(*(engine.view(task_id) for _ in range(5)))
            server.stop()
            for ask in (
                lambda: engine.view(task_id),
                lambda: engine.reply(task_id),
                lambda: engine.submit(markdown()),
                lambda: engine.cancel(task_id, TENANT, ASKED),
                engine.clear_results,
                engine.clear_converters,
                engine.queue_size,
            ):
                with pytest.raises(RedisBackpressureError):
                    await ask()
            with pytest.raises(RuntimeError, match="No connection to Redis"):
                await engine.check_connection()
            await engine.on_result_fetched(task_id)
            server.start()
            await engine.check_connection()
            views = await asyncio.gather(*(engine.view(task_id) for _ in range(5)))
            assert [view.position for view in views] == [1] * 5, "on connections of before"
            await asyncio.wait_for(engine.listener.listening.wait(), PATIENCE_S)


async def test_waiting_survives_a_restart_of_redis(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        async with gateway(server.url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            with JobkitWorker(server.url, rq_settings(server.url)) as worker:
                worker.succeed(worker.take())
            assert (await waiting).status == "success"


async def test_too_many_requests_at_once_are_told_to_come_back(redis_url: str) -> None:
    async with gateway(
        redis_url,
        eng_rq_redis_gate_concurrency=1,
        eng_rq_redis_gate_wait_timeout=0.0,
    ) as engine:
        async with engine._redis_gate.acquire(1):
            with pytest.raises(RedisBackpressureError):
                await engine.submit(markdown())
        assert (await engine.submit(markdown())).status == "pending"
