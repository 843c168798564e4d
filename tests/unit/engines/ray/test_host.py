"""What an actor does with a task, on a real Redis; a function of the test is the gate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.service.callbacks import CallbackSpec
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import Submission
from docling_serve.engines.redis.task_runner import GIVEN_AWAY
from docling_serve.errors import CANCELLED, Failure, TaskFailed
from docling_serve.internals import jobkit_ray
from docling_serve.jobs.run_request import Gate, RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.process.guardian import Guardian
from tests.helpers.loops import PATIENCE_S
from tests.helpers.ray_engines import gateway, ray_settings, require_ray
from tests.helpers.rq_engines import TENANT, markdown, packed_result

require_ray()

from docling_serve.engines.ray.engine import RayEngine  # noqa: E402
from docling_serve.engines.ray.host import Host, limited  # noqa: E402
from docling_serve.engines.ray.host_parts import HostParts  # noqa: E402

RESULT = JobResult(
    body="result.body",
    media_type="application/msgpack",
    processing_time=1.0,
    num_converted=1,
    num_succeeded=1,
)


async def converts(request: RunRequest) -> JobResult:
    request.folder.body.write_bytes(packed_result())
    return RESULT


async def hangs(request: RunRequest) -> JobResult:
    del request
    await asyncio.Event().wait()
    raise AssertionError


class StandInRunner:
    """The runner behind a gate that does not use it."""

    async def run(self, request: RunRequest) -> JobResult:
        raise AssertionError(request)

    def work_in(self, folder: Path) -> None: ...

    async def warm_up(self) -> None: ...

    async def clear(self) -> None: ...

    def drain(self) -> None: ...

    async def close(self) -> None: ...

    def kill(self) -> None: ...


async def ready() -> None:
    return None


class Bench:
    """An actor's host, a gateway, and a task."""

    def __init__(self, engine: RayEngine, host: Host) -> None:
        self.engine = engine
        self.host = host

    async def dispatched(self, submission: Submission | None = None) -> str:
        """A task that the dispatcher has taken out of its queue."""
        task = await self.engine.submit(submission or markdown())
        assert await self.engine.state.dispatch_task_atomic(TENANT, task.task_id, 1)
        return task.task_id

    async def started(self, task_id: str) -> None:
        async with self.engine.watch(task_id) as watch:
            async for state in watch:
                if state.status is TaskStatus.STARTED:
                    return

    async def active(self) -> int:
        return await self.engine.state.get_tenant_active_task_count(TENANT)

    async def has_documents(self, task_id: str) -> bool:
        redis = await jobkit_ray.connection(self.engine.state)
        return bool(await redis.exists(jobkit_ray.payload_key(task_id)))


@asynccontextmanager
async def bench(url: str, folder: Path, gate: Gate, **settings: Any) -> AsyncIterator[Bench]:
    guardian = Guardian()
    values = {"eng_ray_scratch_dir": folder, **settings}
    host = Host(
        ray_settings(url, **values), HostParts(gate, ready, StandInRunner(), guardian), "actor-1"
    )
    async with gateway(url, **values) as engine:
        await host.start()
        yield Bench(engine, host)
        await host.close()
    assert list(folder.iterdir()) == []


async def test_a_task_comes_to_its_result(url: str, tmp_path: Path) -> None:
    async with bench(url, tmp_path, converts) as at:
        task = await at.dispatched()
        waiting = asyncio.create_task(at.engine.wait_finished(task, TENANT, PATIENCE_S))
        await at.host.run(task)
        view = await waiting
        assert (view.status, view.result) == (TaskStatus.SUCCESS, RESULT)
        reply = await at.engine.reply(task, TENANT)
        assert reply is not None
        assert b"done" in reply.content
        assert await at.active() == 0
        assert not await at.has_documents(task)
        stats = await at.engine.state.get_tenant_stats(TENANT)
        assert (stats.total_tasks, stats.successful_documents) == (1, 1)


async def test_a_failure_is_told(url: str, tmp_path: Path) -> None:
    failure = Failure("internal", "It is broken.", details={"document": "t.md"})

    async def fails(request: RunRequest) -> JobResult:
        del request
        raise TaskFailed(failure)

    async with bench(url, tmp_path, fails) as at:
        task = await at.dispatched()
        await at.host.run(task)
        view = await at.engine.view(task)
        assert view.failure is not None
        assert (view.failure.category, view.failure.message) == ("internal", "It is broken.")
        assert await at.active() == 0


async def test_pages_are_told_while_it_runs(url: str, tmp_path: Path) -> None:
    progress = JobProgress(phase="process", completed_pages=2, total_pages=5)
    go_on = asyncio.Event()

    async def progresses(request: RunRequest) -> JobResult:
        request.listeners.on_progress(progress)
        await go_on.wait()
        return await converts(request)

    async with bench(url, tmp_path, progresses) as at:
        task = await at.dispatched()
        running = asyncio.create_task(at.host.run(task))
        async with at.engine.watch(task) as watch:
            async for state in watch:
                if state.progress == progress:
                    break
        go_on.set()
        await running


@pytest.mark.parametrize("way", ["cancel", "delete"])
async def test_a_running_task_is_stopped(url: str, tmp_path: Path, way: str) -> None:
    async with bench(url, tmp_path, hangs) as at:
        task = await at.dispatched()
        running = asyncio.create_task(at.host.run(task))
        await at.started(task)
        if way == "cancel":
            await at.engine.cancel(task, TENANT, CANCELLED)
        else:
            await at.engine.delete(task, TENANT)
        await asyncio.wait_for(running, PATIENCE_S)
        assert at.host.running == []
        assert await at.active() == 0
        assert not await at.has_documents(task)
        if way == "cancel":
            assert (await at.engine.view(task)).failure == CANCELLED
        else:
            with pytest.raises(TaskNotFoundError):
                await at.engine.view(task)


async def test_the_end_of_a_cancelled_task_is_called_back_once(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, str]] = []
    callbacks = [CallbackSpec(url="https://example.com/hook")]
    async with bench(url, tmp_path, hangs) as at:
        monkeypatch.setattr(
            at.host._callbacks, "send", lambda task, *_: called.append((task, "actor"))
        )
        monkeypatch.setattr(
            at.engine, "_on_callback", lambda task, *_: called.append((task, "gateway"))
        )
        ran = await at.dispatched(markdown(callbacks=callbacks))
        running = asyncio.create_task(at.host.run(ran))
        await at.started(ran)
        await at.engine.cancel(ran, TENANT, CANCELLED)
        await asyncio.wait_for(running, PATIENCE_S)
        waits = (await at.engine.submit(markdown(callbacks=callbacks))).task_id
        await at.engine.cancel(waits, TENANT, CANCELLED)
        assert called == [(ran, "actor"), (waits, "gateway")]
        assert not await at.has_documents(waits)


async def test_a_task_that_another_actor_has_is_left_to_it(url: str, tmp_path: Path) -> None:
    """This one was thought to be lost: it lets go, and says nothing of the task's end."""
    async with bench(url, tmp_path, hangs) as at:
        task = await at.dispatched()
        running = asyncio.create_task(at.host.run(task))
        await at.started(task)
        await at.engine.state.write_task_execution_lease(task, TENANT, "actor-2")
        assert await at.host._records.beat(task, 15) is GIVEN_AWAY
        at.host._runner.stop(CANCELLED, task)
        await asyncio.wait_for(running, PATIENCE_S)
        assert (await at.engine.view(task)).status is TaskStatus.STARTED
        assert await at.has_documents(task)


async def test_a_second_call_joins_the_first(url: str, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    runs: list[str] = []

    async def waits(request: RunRequest) -> JobResult:
        runs.append(request.spec.task_id)
        await go_on.wait()
        return await converts(request)

    async with bench(url, tmp_path, waits) as at:
        task = await at.dispatched()
        calls = [asyncio.create_task(at.host.run(task)) for _ in range(2)]
        await at.started(task)
        assert at.host.running == [task]
        go_on.set()
        await asyncio.gather(*calls)
        assert runs == [task]


async def test_the_limits_of_the_settings_apply(url: str, tmp_path: Path) -> None:
    limits: list[Any] = []

    async def notes(request: RunRequest) -> JobResult:
        limits.append(request.spec.options["document_timeout"])
        return await hangs(request)

    async with bench(
        url, tmp_path, notes, eng_ray_task_timeout=0.05, eng_ray_document_timeout=7.0
    ) as at:
        task = await at.dispatched()
        await at.host.run(task)
        failure = (await at.engine.view(task)).failure
        assert failure is not None
        assert (failure.category, limits) == ("timeout", [7.0])
        assert failure.details["limit"] == "eng_ray_task_timeout"


async def test_a_gate_without_a_limit() -> None:
    async def fails(request: RunRequest) -> JobResult:
        del request
        raise TaskFailed(CANCELLED)

    with contextlib.suppress(TaskFailed):
        await limited(fails, None)(None)  # type: ignore[arg-type]


async def test_what_is_gone_is_not_run(url: str, tmp_path: Path) -> None:
    async with bench(url, tmp_path, converts) as at:
        await at.host.run("nothing")
        assert at.host.running == []
