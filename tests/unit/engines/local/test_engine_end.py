"""How the local engine shuts down."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.errors import SHUT_DOWN, ShuttingDown
from tests.helpers.loops import turns
from tests.unit.engines.hand_runner import (
    HandRunner,
    busy_threads,
    finished,
    left_in,
    opened,
    submission,
    submit,
)


async def test_draining_refuses_gives_up_what_waits_and_leaves_what_runs(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        running, waiting = await submit(engine, 2)
        engine.drain()

        assert (await finished(engine, waiting)).failure == SHUT_DOWN
        with pytest.raises(ShuttingDown):
            await engine.submit(submission())
        runner.end(running)
        await engine.finish_running(5)
        assert (await engine.view(running)).status is TaskStatus.SUCCESS


async def test_waiting_for_what_runs_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path, HandRunner()) as engine:
        (task,) = await submit(engine, 1)
        await engine.finish_running(0.01)

        assert (await engine.view(task)).status is TaskStatus.STARTED


async def test_closing_stops_all_and_leaves_no_file(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        done, running, waiting = await submit(engine, 3)
        runner.end(done)
        await finished(engine, done)
        await turns(5)
        waiters = [asyncio.create_task(finished(engine, task)) for task in (running, waiting)]
        await turns(3)
        await engine.close()

        assert [(await waiter).failure for waiter in waiters] == [SHUT_DOWN, SHUT_DOWN]
        assert left_in(tmp_path) == []
        assert engine._records == {}


async def test_a_task_that_is_being_staged_when_the_end_comes_does_not_wait_for_ever(
    tmp_path: Path,
) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (running,) = await submit(engine, 1)
        async with busy_threads() as release:
            late = asyncio.create_task(engine.submit(submission()))
            await turns(3)
            engine.drain()
            release.set()
            try:
                view = await late
            except ShuttingDown:
                assert left_in(tmp_path) == [running]
            else:
                waited = await engine.wait_finished(view.task_id, DEFAULT_TENANT, 1)
                assert waited.finished, "nobody will ever run it"
