"""The rq engine on a real Redis, beside gateways and workers that do as jobkit's do."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress

import pytest
import redis
from docling.datamodel.service.requests import HttpSourceRequest
from docling.datamodel.service.targets import ZipTarget
from docling_jobkit.datamodel.task import Task, validate_task
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
    TaskNotFoundError,
)
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestrator

from docling_serve.engines.base import Submission
from docling_serve.engines.redis.lines import Place
from docling_serve.engines.rq.engine import RqEngine
from docling_serve.errors import ShuttingDown
from docling_serve.internals import jobkit_rq
from tests.helpers.rq_engines import (
    TENANT,
    JobkitWorker,
    gateway,
    markdown,
    packed_result,
    rq_settings,
)
from tests.unit.engines.rq.gateways import ASKED, follow, until, worker_does

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# ---- one gateway accepts, any answers ------------------------------------------------------------


async def test_a_task_is_known_to_every_gateway(redis_url: str) -> None:
    async with gateway(redis_url) as here, gateway(redis_url) as there:
        first = await here.submit(markdown())
        second = await here.submit(markdown())
        assert (first.status, first.position, first.num_docs) == ("pending", 1, 1)
        assert second.position == 2
        assert await there.view(second.task_id) == second
        assert await there.queue_size() == 2
        assert await there.get_queue_position(second.task_id) == 2


async def test_the_job_is_what_jobkits_worker_takes(redis_url: str, worker: JobkitWorker) -> None:
    source = HttpSourceRequest(url="https://example.com/a.pdf", headers={"X-A": "1"})
    submission = markdown("# Title", tenant="acme", target_document_version="1.8.0")
    several = Submission(
        [*submission.sources, source],
        submission.options,
        [ZipTarget()],
        tenant="acme",
        target_document_version="1.8.0",
    )

    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(several)).task_id
    job = worker.job(task_id)
    assert job.func_name == "docling_jobkit.orchestrators.rq.worker.docling_task"
    assert job.kwargs.keys() == {"task_data"}
    task = validate_task(job.kwargs["task_data"])
    assert task.task_id == job.id
    assert base64.b64decode(task.sources[0].base64_string) == b"# Title"
    assert str(task.sources[1].url) == "https://example.com/a.pdf"
    assert task.metadata["tenant_id"] == "acme"
    assert task.target_document_version == "1.8.0"
    assert task.targets is not None
    assert task.targets[0].kind == "zip"
    assert job.description == "convert task", "RQ's own would show documents in the logs"


async def test_documents_are_in_redis_once(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown("# Only once"))).task_id
    text = base64.b64encode(b"# Only once")
    assert text in worker.stored_job(task_id)
    metadata = worker.redis.get(jobkit_rq.metadata_key(task_id))
    assert isinstance(metadata, bytes)
    assert text not in metadata


async def test_another_tenant_sees_nothing(redis_url: str) -> None:
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


async def test_jobkits_gateway_knows_our_task_and_we_know_its(
    redis_url: str, worker: JobkitWorker
) -> None:
    theirs = RQOrchestrator(jobkit_rq.orchestrator_config(rq_settings(redis_url)))
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


async def test_a_task_whose_metadata_expired_is_read_from_its_job(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        before = await engine.submit(markdown(tenant="acme"))
        worker.redis.delete(jobkit_rq.metadata_key(before.task_id))
        assert await engine.view(before.task_id, "acme") == before
        again = worker.redis.get(jobkit_rq.metadata_key(before.task_id))
        assert isinstance(again, bytes)
        assert "sources" not in json.loads(again)


async def test_a_task_that_could_not_be_queued_is_not_known(
    redis_url: str, worker: JobkitWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(redis_url) as engine:

        def full(task: Task, place: Place) -> None:
            raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

        monkeypatch.setattr(engine._jobs, "put", full)
        with pytest.raises((redis.ResponseError, RedisBackpressureError)):
            await engine.submit(markdown(tenant="acme"))
        assert await engine.list_tasks("acme") == []


# ---- waiting -------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_task(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as here, gateway(redis_url) as there:
        task_id = (await here.submit(markdown())).task_id
        waiting = [
            asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
            for engine in (here, there)
        ]
        await worker_does(worker)
        assert [(await waiter).status for waiter in waiting] == ["success", "success"]


async def test_waiting_ends_with_the_time(redis_url: str) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        assert (await engine.wait_finished(task_id, TENANT, 0.01)).status == "pending"


async def test_waiting_ends_with_the_server(redis_url: str) -> None:
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


async def test_a_watcher_sees_every_step_and_moves_up(redis_url: str, worker: JobkitWorker) -> None:
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


async def test_news_missed_while_redis_was_away_are_read_afterwards(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
        started = worker.take()
        worker.succeed(started, silently=True)
        worker.redis.client_kill_filter(_type="pubsub")
        assert (await waiting).status == "success"


# ---- results -------------------------------------------------------------------------------------


async def test_the_result_is_rendered_here(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        assert await engine.reply(task_id) is None
        worker.succeed(worker.take(), packed_result("# Done"))
        reply = await engine.reply(task_id)
        assert reply is not None
        assert reply.media_type == "application/json"
        assert json.loads(reply.content)["document"]["md_content"] == "# Done"


async def test_documents_in_a_result_have_the_version_that_was_asked_for(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown(target_document_version="1.8.0"))).task_id
        worker.succeed(worker.take(), packed_result(with_json=True))
        reply = await engine.reply(task_id)
        assert reply is not None
        assert json.loads(reply.content)["document"]["json_content"]["version"] == "1.8.0"


async def test_a_fetched_result_goes_after_its_delay(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url, result_removal_delay=50) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.succeed(worker.take())
        await engine.on_result_fetched(task_id)
        keys = [jobkit_rq.metadata_key(task_id), jobkit_rq.result_key(worker.config, task_id)]
        assert all(0 < worker.redis.ttl(key) <= 50 for key in keys)
        assert not worker.redis.exists(f"rq:job:{task_id}"), "the document is gone at once"
        assert await engine.reply(task_id) is not None
        for key in keys:
            worker.redis.expire(key, 5)
        await engine.on_result_fetched(task_id)
        assert all(worker.redis.ttl(key) <= 5 for key in keys), "not from the second fetch"


async def test_what_rq_brings_back_of_an_expired_task_is_not_a_task(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.succeed(worker.take())
        worker.redis.delete(
            jobkit_rq.metadata_key(task_id), jobkit_rq.result_key(worker.config, task_id)
        )
        assert worker.redis.exists(f"rq:job:{task_id}")
        with pytest.raises(TaskNotFoundError):
            await engine.view(task_id)


async def test_results_may_be_kept(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url, single_use_results=False, result_removal_delay=5) as engine:
        task_id = (await engine.submit(markdown())).task_id
        worker.succeed(worker.take())
        await engine.on_result_fetched(task_id)
        assert worker.redis.ttl(jobkit_rq.result_key(worker.config, task_id)) > 50


async def test_clearing_removes_finished_tasks_of_every_gateway(
    redis_url: str, worker: JobkitWorker
) -> None:
    async with gateway(redis_url) as here, gateway(redis_url) as there:
        done = (await here.submit(markdown())).task_id
        waits = (await here.submit(markdown())).task_id
        worker.succeed(worker.take())
        await here.on_result_fetched(done)
        await there.clear_results(older_than=3600)
        assert (await here.view(done)).status == "success", "it ended just now"
        await there.clear_results(0, "somebody else")
        assert (await here.view(done)).status == "success", "it is another tenant's"
        await there.clear_results(older_than=0)
        with pytest.raises(TaskNotFoundError):
            await here.view(done)
        assert (await here.view(waits)).status == "pending"
        assert not [key for key in worker.redis.scan_iter() if done.encode() in key]


# ---- jobkit's interface --------------------------------------------------------------------------


async def test_jobkits_spelling_of_it_all(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        submission = markdown()
        task = await engine.enqueue(
            sources=list(submission.sources),
            convert_options=submission.options,
            targets=list(submission.targets),
            metadata={"tenant_id": "acme"},
        )
        assert (task.task_status, task.metadata["tenant_id"]) == ("pending", "acme")
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


async def test_an_engine_keeps_nothing_of_its_tasks(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        assert isinstance(engine, RqEngine)
        for _ in range(3):
            task_id = (await engine.submit(markdown())).task_id
            worker.succeed(worker.take())
            await engine.wait_finished(task_id, TENANT, 10)
            await engine.reply(task_id)
        assert engine.tasks == {}
        assert engine._task_result_keys == {}
        assert engine._watches._watches == {}


async def test_an_unreadable_message_is_not_the_end(redis_url: str, worker: JobkitWorker) -> None:
    async with gateway(redis_url) as engine:
        task_id = (await engine.submit(markdown())).task_id
        waiting = asyncio.ensure_future(engine.wait_finished(task_id, TENANT, 60))
        with suppress(redis.RedisError):
            worker.redis.publish(worker.config.sub_channel, b"\x00 not json")
        worker.succeed(worker.take())
        assert (await waiting).status == "success"
