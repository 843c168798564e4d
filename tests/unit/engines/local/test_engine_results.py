"""Results of the local engine that go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.errors import Failure, TaskFailed
from tests.helpers.eventually import eventually
from tests.helpers.loops import turns
from tests.unit.engines.hand_runner import (
    HandRunner,
    finished,
    left_in,
    opened,
    submit,
)


async def _gone(engine: LocalEngine, task: str) -> None:
    while True:
        try:
            await engine.view(task)
        except TaskNotFoundError:
            return
        await asyncio.sleep(0)


async def test_a_single_use_result_goes_after_it_was_fetched(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner, result_removal_delay_s=0) as engine:
        fetched, kept = await submit(engine, 2)
        for task in (fetched, kept):
            runner.end(task)
            await finished(engine, task)
        for _ in range(2):
            await engine.on_result_fetched(fetched)
        await _gone(engine, fetched)

        assert (await engine.view(kept)).finished
        # Its files go after it is forgotten.
        await asyncio.to_thread(eventually, lambda: left_in(tmp_path) == [kept], within_s=30)
        await engine.on_result_fetched(fetched)


async def test_a_fetched_result_stays_for_its_delay(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner, result_removal_delay_s=600) as engine:
        (task,) = await submit(engine, 1)
        runner.end(task)
        await finished(engine, task)
        await engine.on_result_fetched(task)
        await turns(5)

        assert await engine.reply(task) is not None


async def test_results_for_several_uses_stay(tmp_path: Path) -> None:
    runner = HandRunner()
    options = {"result_removal_delay_s": 0, "single_use_results": False}
    async with opened(tmp_path, runner, **options) as engine:
        (task,) = await submit(engine, 1)
        runner.end(task)
        await finished(engine, task)
        await engine.on_result_fetched(task)
        await turns(5)

        assert await engine.reply(task) is not None


@pytest.mark.parametrize(("older_than", "left"), [(0.0, 1), (-5.0, 1), (3600.0, 3)])
async def test_clearing_removes_what_ended_long_ago(
    tmp_path: Path, older_than: float, left: int
) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        done, failed, running = await submit(engine, 3)
        runner.end(done)
        runner.end(failed, TaskFailed(Failure("policy", "No.")))
        for task in (done, failed):
            await finished(engine, task)
        await engine.clear_results(older_than)

        assert len(engine._records) == left
        assert not (await engine.view(running)).finished


async def test_deleting_a_running_task_stops_it(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        view = await engine.delete(task, DEFAULT_TENANT)

        assert view.failure is not None
        assert runner.cancelled == [task]
        assert left_in(tmp_path) == []
        with pytest.raises(TaskNotFoundError):
            await engine.view(task)
