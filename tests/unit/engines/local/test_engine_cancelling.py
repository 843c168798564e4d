"""Cancelling tasks of the local engine, and whose they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.engines.local.states import TaskState
from docling_serve.errors import Failure, TaskFailed
from tests.helpers.loops import PATIENCE_S, turns
from tests.unit.engines.hand_runner import (
    CAUSE,
    HandRunner,
    busy_threads,
    finished,
    opened,
    positions,
    submission,
    submit,
)

# ---- cancelling ----------------------------------------------------------------------------------


async def test_a_waiting_task_is_cancelled_at_once(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        first, second, third = await submit(engine, 3)
        view = await engine.cancel(second, DEFAULT_TENANT, CAUSE)

        assert view.failure == CAUSE
        assert await positions(engine, [first, second, third]) == [None, None, 1]
        for task in (first, third):
            runner.end(task)
            await finished(engine, task)
        assert runner.handed == [first, third]
        assert not (tmp_path / second).exists()


async def test_a_running_task_is_cancelled_with_its_runner(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        view = await engine.cancel(task, DEFAULT_TENANT, CAUSE)

        assert view.failure == CAUSE
        assert runner.cancelled == [task]
        assert not (tmp_path / task).exists()


@pytest.mark.parametrize("already", range(8))
async def test_a_task_can_be_cancelled_at_any_moment(tmp_path: Path, already: int) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        view = await engine.submit(submission())
        await turns(already)
        cancelling = asyncio.create_task(engine.cancel(view.task_id, DEFAULT_TENANT, CAUSE))
        ended, _ = await asyncio.wait({cancelling}, timeout=PATIENCE_S)

        assert ended, "it waits for ever"
        assert cancelling.result().failure == CAUSE
        following = await engine.submit(submission())
        runner.end(following.task_id)
        assert (await finished(engine, following.task_id)).failure is None


async def test_a_task_can_be_cancelled_before_the_first_step_of_its_runner(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        await turns(2)  # the queue waits for a task
        task = (await engine.submit(submission())).task_id
        while engine._records[task].state is TaskState.QUEUED:
            await turns(1)
        assert engine._records[task].state is TaskState.HANDED_OVER
        assert runner.handed == [], "its own coroutine has not begun"
        view = await engine.cancel(task, DEFAULT_TENANT, CAUSE)

        assert view.failure == CAUSE
        assert runner.handed == []
        (following,) = await submit(engine, 1)
        runner.end(following)
        assert (await finished(engine, following)).failure is None, "the hand is free again"


async def test_a_task_can_be_cancelled_twice(tmp_path: Path) -> None:
    async with opened(tmp_path, HandRunner()) as engine:
        (task,) = await submit(engine, 1)
        views = await asyncio.gather(
            *(engine.cancel(task, DEFAULT_TENANT, CAUSE) for _ in range(2))
        )

        assert [view.failure for view in views] == [CAUSE, CAUSE]


@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_task_can_be_cancelled_while_it_cleans_up(tmp_path: Path, succeeds: bool) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        async with busy_threads() as release:
            runner.end(task, None if succeeds else TaskFailed(Failure("policy", "No.")))
            await turns(5)
            cancelling = asyncio.create_task(engine.cancel(task, DEFAULT_TENANT, CAUSE))
            await turns(5)
            release.set()
            ended, _ = await asyncio.wait({cancelling}, timeout=PATIENCE_S)

            assert ended, "it waits for ever"
        view = cancelling.result()
        assert view.finished
        assert (view.failure is None) is (await engine.reply(task) is not None)


async def test_what_has_ended_is_not_cancelled(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        runner.end(task)
        await finished(engine, task)
        view = await engine.cancel(task, DEFAULT_TENANT, CAUSE)

        assert view.status is TaskStatus.SUCCESS
        assert await engine.reply(task) is not None


# ---- tenants -------------------------------------------------------------------------------------


async def test_a_task_is_seen_by_its_tenant_alone(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1, tenant="acme")
        runner.end(task)

        assert (await finished(engine, task, "acme")).status is TaskStatus.SUCCESS
        assert await engine.reply(task, "acme") is not None
        for asked in (
            engine.view(task, "other"),
            engine.view(task),
            engine.wait_finished(task, "other", 0),
            engine.reply(task, "other"),
            engine.cancel(task, "other", CAUSE),
            engine.delete(task, "other"),
            engine.view("no-such-task", "acme"),
        ):
            with pytest.raises(TaskNotFoundError):
                await asked
