"""The rq engine on a real Redis, beside gateways and workers that do as jobkit's do."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import redis
from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.requests import HttpSourceRequest
from docling.datamodel.service.targets import ZipTarget
from docling_jobkit.datamodel.task import validate_task
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
    TaskNotFoundError,
)
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestrator

from docling_serve.engines.base import Submission
from docling_serve.engines.rq import wire
from docling_serve.engines.rq.engine import WORKER_LOST, RqEngine
from docling_serve.engines.rq.watchdog import WatchdogTimes
from docling_serve.engines.watch import Watch
from docling_serve.errors import Failure, ShuttingDown
from docling_serve.jobs import JobProgress
from tests.helpers.loops import run
from tests.helpers.redis_server import RedisServer
from tests.helpers.rq_engines import (
    TENANT,
    JobkitWorker,
    gateway,
    heard,
    markdown,
    packed_result,
    rq_settings,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CALLBACK = CallbackSpec(url="http://callback.test/", headers={"X-Key": "k"})
Event = tuple[str, Sequence[CallbackSpec], dict[str, Any]]
ASKED = Failure("policy", "asked to", details={"reason": "test"})


@pytest.fixture
def worker(redis_url: str) -> Iterator[JobkitWorker]:
    with JobkitWorker(redis_url, rq_settings(redis_url)) as worker:
        yield worker


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that nobody tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def worker_does(worker: JobkitWorker) -> None:
    """The next job is taken and done."""
    await asyncio.to_thread(lambda: worker.succeed(worker.take()))


async def follow(watch: Watch) -> list[tuple[str, int | None]]:
    """Every state up to the last."""
    return [(view.status.value, view.position) async for view in watch]


# ---- one gateway accepts, any answers ------------------------------------------------------------


def test_a_task_is_known_to_every_gateway(redis_url: str) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as here, gateway(redis_url) as there:
            first = await here.submit(markdown())
            second = await here.submit(markdown())
            assert (first.status, first.position, first.num_docs) == ("pending", 1, 1)
            assert second.position == 2
            assert await there.view(second.task_id) == second
            assert await there.queue_size() == 2
            assert await there.get_queue_position(second.task_id) == 2

    run(scenario())


def test_the_job_is_what_jobkits_worker_takes(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> str:
        async with gateway(redis_url) as engine:
            source = HttpSourceRequest(url="https://example.com/a.pdf", headers={"X-A": "1"})
            submission = markdown("# Title", tenant="acme", target_document_version="1.8.0")
            several = Submission(
                [*submission.sources, source],
                submission.options,
                [ZipTarget()],
                tenant="acme",
                target_document_version="1.8.0",
            )
            return (await engine.submit(several)).task_id

    job = worker.job(run(scenario()))
    assert job.func_name == "docling_jobkit.orchestrators.rq.worker.docling_task"
    assert job.kwargs.keys() == {"task_data"}
    task = validate_task(job.kwargs["task_data"])
    assert task.task_id == job.id
    assert base64.b64decode(task.sources[0].base64_string) == b"# Title"
    assert str(task.sources[1].url) == "https://example.com/a.pdf"
    assert task.metadata == {"tenant_id": "acme"}
    assert task.target_document_version == "1.8.0"
    assert task.targets is not None
    assert task.targets[0].kind == "zip"
    assert job.description == "convert task", "RQ's own would show documents in the logs"


def test_documents_are_in_redis_once(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> str:
        async with gateway(redis_url) as engine:
            return (await engine.submit(markdown("# Only once"))).task_id

    task_id = run(scenario())
    text = base64.b64encode(b"# Only once")
    assert text in worker.stored_job(task_id)
    metadata = worker.redis.get(wire.metadata_key(task_id))
    assert isinstance(metadata, bytes)
    assert text not in metadata


def test_another_tenant_sees_nothing(redis_url: str) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as here, gateway(redis_url) as there:
            task_id = (await here.submit(markdown(tenant="acme"))).task_id
            assert (await there.view(task_id, "acme")).task_id == task_id
            for ask in (there.view, there.reply, there.delete):
                with pytest.raises(TaskNotFoundError):
                    await ask(task_id, TENANT)
            with pytest.raises(TaskNotFoundError):
                await there.cancel(task_id, TENANT, ASKED)
            with pytest.raises(TaskNotFoundError):
                await there.wait_finished(task_id, TENANT, 1)

    run(scenario())


def test_jobkits_gateway_knows_our_task_and_we_know_its(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        theirs = RQOrchestrator(wire.orchestrator_config(rq_settings(redis_url)))
        async with gateway(redis_url) as ours:
            task_id = (await ours.submit(markdown())).task_id
            assert (await theirs.task_status(task_id)).task_status == "pending"
            submission = markdown()
            task = await theirs.enqueue(
                sources=[HttpSourceRequest(url="https://example.com/a.pdf")],
                targets=list(submission.targets),
                convert_options=submission.options,
                metadata={"tenant_id": "acme"},
            )
            view = await ours.view(task.task_id, "acme")
            assert (view.status, view.position) == ("pending", 2)
            await worker_does(worker)
            done = await theirs.task_status(task_id)
            assert done.task_status == "success"
            result = await theirs.task_result(task_id)
            assert result is not None
            assert result.num_succeeded == 1
        await theirs.close()

    run(scenario())


def test_a_task_whose_metadata_expired_is_read_from_its_job(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            before = await engine.submit(markdown(tenant="acme"))
            worker.redis.delete(wire.metadata_key(before.task_id))
            assert await engine.view(before.task_id, "acme") == before
            again = worker.redis.get(wire.metadata_key(before.task_id))
            assert isinstance(again, bytes)
            assert "sources" not in json.loads(again)

    run(scenario())


# ---- waiting -------------------------------------------------------------------------------------


def test_waiting_ends_with_the_task(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as here, gateway(redis_url) as there:
            task_id = (await here.submit(markdown())).task_id
            waiting = [
                asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
                for engine in (here, there)
            ]
            await worker_does(worker)
            assert [(await waiter).status for waiter in waiting] == ["success", "success"]

    run(scenario())


def test_waiting_ends_with_the_time(redis_url: str) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            assert (await engine.wait_finished(task_id, TENANT, 0.01)).status == "pending"

    run(scenario())


def test_waiting_ends_with_the_server(redis_url: str) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
            engine.drain()
            with pytest.raises(ShuttingDown):
                await engine.submit(markdown())
            engine.cancel_running()
            with pytest.raises(ShuttingDown):
                await waiting
            assert (await engine.view(task_id)).status == "pending", "the task goes on"

    run(scenario())


def test_a_watcher_sees_every_step_and_moves_up(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            first = (await engine.submit(markdown())).task_id
            second = (await engine.submit(markdown())).task_id
            async with engine.watch(second) as watch:
                seen = asyncio.ensure_future(follow(watch))
                steps = [lambda: worker.succeed(worker.take())] * 2
                for step, position in zip(steps, (1, None), strict=True):
                    await asyncio.to_thread(step)
                    await until(lambda position=position: watch.latest.position == position)
                states = await seen
            assert states[:2] == [("pending", 2), ("pending", 1)]
            assert states[-1] == ("success", None)
            assert (await engine.view(first)).status == "success"

    run(scenario())


def test_news_missed_while_redis_was_away_are_read_afterwards(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
            started = worker.take()
            worker.succeed(started, silently=True)
            worker.redis.client_kill_filter(_type="pubsub")
            assert (await waiting).status == "success"

    run(scenario())


# ---- results -------------------------------------------------------------------------------------


def test_the_result_is_rendered_here(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            assert await engine.reply(task_id) is None
            worker.succeed(worker.take(), packed_result("# Done"))
            reply = await engine.reply(task_id)
            assert reply is not None
            assert reply.media_type == "application/json"
            assert json.loads(reply.content)["document"]["md_content"] == "# Done"

    run(scenario())


def test_documents_in_a_result_have_the_version_that_was_asked_for(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown(target_document_version="1.8.0"))).task_id
            worker.succeed(worker.take(), packed_result(with_json=True))
            reply = await engine.reply(task_id)
            assert reply is not None
            assert json.loads(reply.content)["document"]["json_content"]["version"] == "1.8.0"

    run(scenario())


def test_a_fetched_result_goes_after_its_delay(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url, result_removal_delay=50) as engine:
            task_id = (await engine.submit(markdown())).task_id
            worker.succeed(worker.take())
            await engine.on_result_fetched(task_id)
            keys = [wire.metadata_key(task_id), wire.result_key(worker.config, task_id)]
            assert all(0 < worker.redis.ttl(key) <= 50 for key in keys)
            assert not worker.redis.exists(f"rq:job:{task_id}"), "the document is gone at once"
            assert await engine.reply(task_id) is not None
            for key in keys:
                worker.redis.expire(key, 5)
            await engine.on_result_fetched(task_id)
            assert all(worker.redis.ttl(key) <= 5 for key in keys), "not from the second fetch"

    run(scenario())


def test_what_rq_brings_back_of_an_expired_task_is_not_a_task(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            worker.succeed(worker.take())
            worker.redis.delete(wire.metadata_key(task_id), wire.result_key(worker.config, task_id))
            assert worker.redis.exists(f"rq:job:{task_id}")
            with pytest.raises(TaskNotFoundError):
                await engine.view(task_id)

    run(scenario())


def test_results_may_be_kept(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url, single_use_results=False, result_removal_delay=5) as engine:
            task_id = (await engine.submit(markdown())).task_id
            worker.succeed(worker.take())
            await engine.on_result_fetched(task_id)
            assert worker.redis.ttl(wire.result_key(worker.config, task_id)) > 50

    run(scenario())


def test_clearing_removes_finished_tasks_of_every_gateway(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as here, gateway(redis_url) as there:
            done = (await here.submit(markdown())).task_id
            waits = (await here.submit(markdown())).task_id
            worker.succeed(worker.take())
            await here.on_result_fetched(done)
            await there.clear_results(older_than=3600)
            assert (await here.view(done)).status == "success", "it ended just now"
            await there.clear_results(older_than=0)
            with pytest.raises(TaskNotFoundError):
                await here.view(done)
            assert (await here.view(waits)).status == "pending"
            assert not [key for key in worker.redis.scan_iter() if done.encode() in key]

    run(scenario())


# ---- failures ------------------------------------------------------------------------------------


def test_what_jobkits_worker_says_of_a_failure_is_kept(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as here:
            task_id = (await here.submit(markdown())).task_id
            worker.fail(worker.take(), "Source document could not be reached.")
            failed = await here.wait_finished(task_id, TENANT, 60)
            await until(lambda: worker.redis.hexists(wire.detail_key(task_id), wire.FAILURE))
        async with gateway(redis_url) as later:
            assert (await later.view(task_id)).failure == Failure(
                "internal", "Source document could not be reached."
            )
        assert failed.status == "failure"

    run(scenario())


def test_what_our_worker_says_of_a_failure_is_kept(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            progress = JobProgress(phase="process", completed_pages=2)
            detail = wire.detail_key(task_id)
            worker.redis.hset(detail, wire.FAILURE, wire.dump_failure(ASKED))
            worker.redis.hset(detail, wire.PROGRESS, progress.model_dump_json())
            view = await engine.view(task_id)
            assert (view.status, view.failure, view.progress) == ("failure", ASKED, progress)

    run(scenario())


def test_a_task_whose_job_was_lost_says_so(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            worker.redis.delete(f"rq:job:{task_id}")
            view = await engine.view(task_id)
            assert view.status == "failure"
            assert view.failure is not None
            assert "gone from Redis" in view.failure.message
            assert view.failure.retryable

    run(scenario())


def test_the_task_of_a_lost_worker_ends(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        times = WatchdogTimes(look_every_s=0.01, missing_for_s=0.0)
        async with gateway(redis_url) as here, gateway(redis_url, times):
            task_id = (await here.submit(markdown())).task_id
            alive = wire.heartbeat_key(worker.config, task_id)
            worker.redis.set(alive, "1")
            worker.take()
            waiting = asyncio.ensure_future(here.wait_finished(task_id, TENANT, 60))
            worker.redis.delete(alive)
            assert (await waiting).failure == WORKER_LOST
            job = worker.job(task_id)
            await until(lambda: job.id not in job.started_job_registry.get_job_ids())
            assert job.get_status() == "failed"
            assert worker.redis.ttl(job.key) > 0, "it does not stay for ever"

    run(scenario())


def test_the_callbacks_of_a_lost_task_hear_of_its_end_once(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        times = WatchdogTimes(look_every_s=0.01, missing_for_s=0.0)
        told: list[Event] = []
        async with gateway(redis_url, times) as here, gateway(redis_url, times) as there:
            for engine in (here, there):
                engine.on_callback = lambda *event: told.append(event)
            task_id = (await here.submit(markdown(callbacks=[CALLBACK]))).task_id
            job = worker.job(worker.take())
            await until(lambda: job.id not in job.started_job_registry.get_job_ids())
            await here.wait_finished(task_id, TENANT, 60)
        ((told_id, callbacks, event),) = told
        assert (told_id, callbacks) == (task_id, [CALLBACK])
        assert (event["kind"], event["task_status"]) == ("task_completed", "failure")
        assert event["failure"]["details"] == {"reason": "worker_lost"}

    run(scenario())


def test_a_worker_lost_after_its_work_has_done_it(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        times = WatchdogTimes(look_every_s=0.01, missing_for_s=0.0)
        async with gateway(redis_url, times) as engine:
            task_id = (await engine.submit(markdown())).task_id
            # The result before the job is seen as started: its worker shows no sign of life.
            worker.redis.set(wire.result_key(worker.config, task_id), packed_result())
            job = worker.job(worker.take())
            await until(lambda: job.id not in job.started_job_registry.get_job_ids())
            assert job.get_status() == "finished"
            assert (await engine.view(task_id)).status == "success"

    run(scenario())


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_waiting_task_is_taken_out_of_the_queue(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as here, gateway(redis_url) as there:
            task_id = (await here.submit(markdown())).task_id
            waiting = asyncio.ensure_future(there.wait_finished(task_id, TENANT, 60))
            view = await here.cancel(task_id, TENANT, ASKED)
            assert (view.status, view.failure, view.position) == ("failure", ASKED, None)
            assert await waiting == view
            assert worker.redis.llen("rq:queue:convert") == 0
            assert not worker.redis.exists(f"rq:job:{task_id}")
            again = await here.cancel(task_id, TENANT, wire.CANCELLED)
            assert replace(again, finished_at=None) == view, "it has ended once"

    run(scenario())


def test_the_callbacks_of_a_task_that_no_worker_had_hear_of_its_end(redis_url: str) -> None:
    async def scenario() -> None:
        told: list[Event] = []
        async with gateway(redis_url) as engine:
            engine.on_callback = lambda *event: told.append(event)
            cancelled = await engine.submit(markdown(callbacks=[CALLBACK]))
            await engine.cancel(cancelled.task_id, TENANT, ASKED)
            deleted = await engine.submit(markdown(callbacks=[CALLBACK]))
            await engine.delete(deleted.task_id, TENANT)
            await engine.delete((await engine.submit(markdown())).task_id, TENANT)
        assert [task_id for task_id, _, _ in told] == [cancelled.task_id, deleted.task_id]
        assert all(callbacks == [CALLBACK] for _, callbacks, _ in told)
        assert {event["task_status"] for _, _, event in told} == {"failure"}

    run(scenario())


def test_the_worker_of_a_running_task_is_told_to_stop(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
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

    run(scenario())


def test_a_deleted_task_is_gone(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            done = (await engine.submit(markdown())).task_id
            worker.succeed(worker.take())
            waits = (await engine.submit(markdown())).task_id
            assert (await engine.delete(done, TENANT)).status == "success"
            assert (await engine.delete(waits, TENANT)).failure == wire.CANCELLED
            for task_id in (done, waits):
                with pytest.raises(TaskNotFoundError):
                    await engine.view(task_id)
                assert not [key for key in worker.redis.scan_iter() if task_id.encode() in key]

    run(scenario())


def test_a_task_that_a_worker_takes_while_it_is_deleted(
    redis_url: str, worker: JobkitWorker
) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            waiting = await engine._find(task_id, TENANT)
            worker.take()
            assert (await engine._delete(waiting)).failure == wire.CANCELLED
            assert worker.redis.hexists(wire.detail_key(task_id), wire.FAILURE), "so it stops"
            worker.succeed(task_id)
            with pytest.raises(TaskNotFoundError):
                await engine.view(task_id)

    run(scenario())


def test_a_task_of_which_only_rqs_last_words_are_left(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            worker.redis.delete(wire.metadata_key(task_id), f"rq:job:{task_id}")
            worker.redis.hset(f"rq:job:{task_id}", mapping={"status": "started", "origin": "x"})
            with pytest.raises(TaskNotFoundError):
                await engine.view(task_id)

    run(scenario())


def test_a_running_task_is_hidden_once_deleted(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            worker.take()
            async with engine.watch(task_id) as watch:
                assert (await engine.delete(task_id, TENANT)).failure == wire.CANCELLED
                assert (await follow(watch))[-1][0] == "failure"
            worker.succeed(task_id)
            with pytest.raises(TaskNotFoundError):
                await engine.view(task_id)

    run(scenario())


def test_every_worker_is_asked_to_clear(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            worker.redis.sadd("rq:workers:convert", "rq:worker:one")
            (told,) = await heard(redis_url, "rq:pubsub:one", engine.clear_converters)
            assert json.loads(told) == {"command": wire.CLEAR_COMMAND}
            (job_id,) = worker.redis.lrange("rq:queue:convert", 0, -1)
            assert worker.job(job_id.decode()).func_name == wire.CLEAR_FUNCTION

    run(scenario())


# ---- Redis is away -------------------------------------------------------------------------------


def test_without_redis_requests_are_told_to_come_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def scenario() -> None:
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
                await asyncio.wait_for(engine.listener.listening.wait(), 20)

    run(scenario(), within_s=40)


def test_waiting_survives_a_restart_of_redis(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def scenario() -> None:
        with RedisServer(tmp_path_factory.mktemp("redis")) as server:
            async with gateway(server.url) as engine:
                task_id = (await engine.submit(markdown())).task_id
                waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                with JobkitWorker(server.url, rq_settings(server.url)) as worker:
                    worker.succeed(worker.take())
                assert (await waiting).status == "success"

    run(scenario(), within_s=40)


def test_too_many_requests_at_once_are_told_to_come_back(redis_url: str) -> None:
    async def scenario() -> None:
        async with gateway(
            redis_url,
            eng_rq_redis_gate_concurrency=1,
            eng_rq_redis_gate_wait_timeout=0.0,
        ) as engine:
            async with engine._redis_gate.acquire(1):
                with pytest.raises(RedisBackpressureError):
                    await engine.submit(markdown())
            assert (await engine.submit(markdown())).status == "pending"

    run(scenario())


# ---- jobkit's interface --------------------------------------------------------------------------


def test_jobkits_spelling_of_it_all(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            submission = markdown()
            task = await engine.enqueue(
                sources=list(submission.sources),
                convert_options=submission.options,
                targets=list(submission.targets),
                metadata={"tenant_id": "acme"},
            )
            assert (task.task_status, task.metadata) == ("pending", {"tenant_id": "acme"})
            assert await engine.task_result(task.task_id) is None
            worker.succeed(worker.take())
            done = await engine.task_status(task.task_id, wait=10)
            assert done.task_status == "success"
            result = await engine.task_result(task.task_id)
            assert result is not None
            assert result.num_succeeded == 1
            await engine.delete_task(task.task_id)
            await engine.delete_task(task.task_id)
            with pytest.raises(TaskNotFoundError):
                await engine.task_status(task.task_id)

    run(scenario())


def test_an_engine_keeps_nothing_of_its_tasks(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            assert isinstance(engine, RqEngine)
            for _ in range(3):
                task_id = (await engine.submit(markdown())).task_id
                worker.succeed(worker.take())
                await engine.wait_finished(task_id, TENANT, 10)
                await engine.reply(task_id)
            assert engine.tasks == {}
            assert engine._task_result_keys == {}
            assert engine._watchers._watches == {}

    run(scenario())


def test_an_unreadable_message_is_not_the_end(redis_url: str, worker: JobkitWorker) -> None:
    async def scenario() -> None:
        async with gateway(redis_url) as engine:
            task_id = (await engine.submit(markdown())).task_id
            waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
            with suppress(redis.RedisError):
                worker.redis.publish(worker.config.sub_channel, b"\x00 not json")
            worker.succeed(worker.take())
            assert (await waiting).status == "success"

    run(scenario())
