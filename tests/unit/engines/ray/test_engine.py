"""The gateway's side of the ray engine, on a real Redis: what it says of tasks, how it ends them.

No cluster runs here; where an actor would end a task, the test does so with jobkit's code.
"""

from __future__ import annotations

import asyncio
import socket

import pytest
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import (
    RedisBackpressureError,
    TaskNotFoundError,
)

from docling_serve.errors import Failure, QueueFull, ShuttingDown
from docling_serve.internals import jobkit_ray
from docling_serve.internals.jobkit_ray import TaskUpdate
from docling_serve.settings import DoclingServeSettings
from tests.helpers.ray_engines import gateway, ray_engine, ray_settings, require_ray
from tests.helpers.rq_engines import TENANT, markdown, packed_result

require_ray()

from docling_serve.engines.ray.config import orchestrator_config, setting_of  # noqa: E402
from docling_serve.engines.ray.engine import RayEngine  # noqa: E402
from docling_serve.internals.jobkit_rq import unpacked  # noqa: E402

CAUSE = Failure("policy", "Nobody waits for it.")

#: Settings that are not jobkit's: the server itself reads them.
OURS = {
    "eng_ray_converter_actor_num_gpus",
    "eng_ray_tenant_id_header",
    "eng_ray_tenant_metrics_refresh_interval",
}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has this option")
@pytest.mark.parametrize("blocking", [False, True])
async def test_a_connection_that_has_silently_broken_is_given_up(url: str, blocking: bool) -> None:
    engine = ray_engine(url, eng_ray_redis_operation_timeout=7.0)
    redis = await jobkit_ray.connection(engine.state)
    if blocking:
        redis = jobkit_ray.blocking_connection(engine.state)
    connection = await redis.connection_pool.get_connection()

    sock = connection._writer.get_extra_info("socket")

    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2
    await redis.connection_pool.release(connection)
    await redis.aclose()
    await engine.close()


async def finish(engine: RayEngine, task_id: str) -> None:
    """What jobkit's actors do when a task is done."""
    result = unpacked(packed_result())
    await engine.state.finalize_task_success_atomic(TENANT, task_id, 1, result)
    await engine.state.publish_update(TaskUpdate(task_id=task_id, task_status=TaskStatus.SUCCESS))


def test_every_setting_reaches_jobkit() -> None:
    changed = {
        "eng_ray_namespace": "n",
        "eng_ray_object_store_memory": "1GB",
        "eng_ray_max_queued_tasks": 3,
        "eng_ray_converter_actor_num_cpus": 0.5,
        "eng_ray_coordinator_actor_memory_request": "1GB",
        "eng_ray_document_timeout": 9.0,
        "result_removal_delay": 7,
    }
    config = orchestrator_config(ray_settings("redis://there/", **changed))

    assert (config.ray_address, config.redis_url) == ("local", "redis://there/")
    assert (config.ray_namespace, config.ray_object_store_memory) == ("n", "1GB")
    assert (config.max_queued_tasks, config.result_removal_delay) == (3, 7)
    assert (config.converter_actor_num_cpus, config.document_timeout) == (0.5, 9.0)
    assert config.coordinator_actor_memory_request == "1GB"
    passed_on = {setting_of(name) for name in type(config).model_fields}
    ours = {name for name in DoclingServeSettings.model_fields if name.startswith("eng_ray_")}
    assert ours - passed_on == OURS


async def test_a_task_from_its_queue_to_its_reply(url: str) -> None:
    async with gateway(url) as here, gateway(url) as there:
        view = await here.submit(markdown())
        assert (view.status, view.position, view.num_docs) == (TaskStatus.PENDING, 1, 1)
        assert (tuple(view.names), view.light) == (("t.md",), True)
        assert await there.queue_size() == 1
        waiting = asyncio.create_task(there.wait_finished(view.task_id, TENANT, 30))
        await finish(here, view.task_id)
        assert (await waiting).status is TaskStatus.SUCCESS
        reply = await there.reply(view.task_id, TENANT)
        assert reply is not None
        assert b"done" in reply.content


async def test_a_tenant_sees_its_own_tasks_only(url: str) -> None:
    async with gateway(url) as engine:
        mine = await engine.submit(markdown(tenant="acme"))
        with pytest.raises(TaskNotFoundError):
            await engine.view(mine.task_id, TENANT)
        assert [t.task_id for t in await engine.list_tasks("acme")] == [mine.task_id]
        assert await engine.list_tasks("acme", TaskStatus.SUCCESS) == []
        assert await engine.list_tasks(TENANT) == []


async def test_a_waiting_task_that_is_cancelled_is_not_run(url: str) -> None:
    async with gateway(url) as engine:
        stays, goes = [await engine.submit(markdown()) for _ in range(2)]
        ended = await engine.cancel(goes.task_id, TENANT, CAUSE)
        assert (ended.status, ended.failure) == (TaskStatus.FAILURE, CAUSE)
        assert (await engine.view(goes.task_id, TENANT)).failure == CAUSE
        assert await engine.queue_size() == 1
        assert (await engine.state.get_tenant_limits(TENANT)).queued_tasks == 1
        assert (await engine.view(stays.task_id, TENANT)).status is TaskStatus.PENDING


async def test_what_comes_of_a_cancelled_task_is_thrown_away(url: str) -> None:
    async with gateway(url) as engine:
        task = await engine.submit(markdown())
        await engine.cancel(task.task_id, TENANT, CAUSE)
        await finish(engine, task.task_id)
        assert (await engine.view(task.task_id, TENANT)).status is TaskStatus.FAILURE
        assert await engine.reply(task.task_id, TENANT) is None
        assert (await engine.cancel(task.task_id, TENANT, CAUSE)).finished


async def test_a_deleted_task_is_gone_for_good(url: str) -> None:
    async with gateway(url) as engine:
        task = await engine.submit(markdown())
        assert (await engine.delete(task.task_id, TENANT)).status is TaskStatus.FAILURE
        await finish(engine, task.task_id)  # a conversion that was running
        with pytest.raises(TaskNotFoundError):
            await engine.view(task.task_id, TENANT)


@pytest.mark.parametrize("single_use", [True, False])
async def test_a_fetched_result_expires_where_results_are_for_one_use(
    url: str, single_use: bool
) -> None:
    async with gateway(url, single_use_results=single_use, result_removal_delay=60) as engine:
        task = await engine.submit(markdown())
        await finish(engine, task.task_id)
        await engine.on_result_fetched(task.task_id)
        ttl = await engine.state.redis.ttl(f"task:{task.task_id}")
        assert (0 < ttl <= 60) is single_use


async def test_finished_tasks_are_cleared(url: str) -> None:
    async with gateway(url) as engine:
        done, waits = [await engine.submit(markdown()) for _ in range(2)]
        await finish(engine, done.task_id)
        await engine.clear_results(older_than=3600)
        await engine.clear_results(0, "somebody else")
        assert len(await engine.list_tasks(TENANT)) == 2
        await engine.clear_results()
        left = await engine.list_tasks(TENANT)
        assert [task.task_id for task in left] == [waits.task_id]


async def test_a_full_queue_refuses(url: str) -> None:
    limits = {"eng_ray_max_queued_tasks": 1, "eng_ray_enable_queue_limit_rejection": True}

    async with gateway(url, **limits) as engine:
        await engine.submit(markdown())
        with pytest.raises(QueueFull, match="default"):
            await engine.submit(markdown())
        await engine.submit(markdown(tenant="another"))


async def test_at_the_end_nothing_is_accepted_and_nobody_waits(url: str) -> None:
    async with gateway(url) as engine:
        task = await engine.submit(markdown())
        waiting = asyncio.create_task(engine.wait_finished(task.task_id, TENANT, 30))
        await asyncio.sleep(0)
        engine.drain()
        engine.cancel_running()
        with pytest.raises(ShuttingDown):
            await waiting
        with pytest.raises(ShuttingDown):
            await engine.submit(markdown())


async def test_redis_that_is_not_there_is_busy() -> None:
    engine = ray_engine("redis://127.0.0.1:1/")
    with pytest.raises(RedisBackpressureError):
        await engine.submit(markdown())
    with pytest.raises(RedisBackpressureError):
        await engine.view("a", TENANT)
    await engine.close()
