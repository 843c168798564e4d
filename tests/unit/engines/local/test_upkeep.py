"""What goes by the clock; the clock is the test's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.engines.local.lines import QueueLimits
from docling_serve.engines.local.retention import RetentionRules
from tests.helpers.loops import run
from tests.unit.engines.hand_runner import REPLY, HandRunner, finished, left_in, opened, submit


def test_a_task_that_waits_too_long_fails_and_says_why(tmp_path: Path) -> None:
    async def work() -> None:
        limits = QueueLimits(age_s=60)
        async with opened(tmp_path, HandRunner(), limits=limits) as engine:
            running, waiting = await submit(engine, 2)
            await engine._upkeep.round(time.time() + 59)
            assert (await engine.view(waiting)).status is TaskStatus.PENDING
            await engine._upkeep.round(time.time() + 61)

            failure = (await finished(engine, waiting)).failure
            assert failure is not None
            assert (failure.category, failure.retryable) == ("timeout", True)
            assert failure.details == {"reason": "queue_age"}
            assert (await engine.view(running)).status is TaskStatus.STARTED
            assert engine.waiting == 0

    run(work())


def test_old_tasks_are_forgotten_with_their_results(tmp_path: Path) -> None:
    async def work() -> None:
        runner = HandRunner()
        async with opened(tmp_path, runner, retention=RetentionRules(max_age_s=60)) as engine:
            done, running = await submit(engine, 2)
            runner.end(done)
            await finished(engine, done)
            await engine._upkeep.round(time.time() + 61)

            with pytest.raises(TaskNotFoundError):
                await engine.view(done)
            assert left_in(tmp_path) == [running]

    run(work())


def test_results_beyond_the_room_for_them_go_the_oldest_first(tmp_path: Path) -> None:
    async def work() -> None:
        runner = HandRunner()
        rules = RetentionRules(max_bytes=2 * len(REPLY))
        async with opened(tmp_path, runner, retention=rules) as engine:
            tasks = await submit(engine, 3)
            for task in tasks:
                runner.end(task)
                await finished(engine, task)
            await engine._upkeep.round(time.time())

            kept = [view.task_id for view in await engine.list_tasks(DEFAULT_TENANT)]
            assert kept == [tasks[2], tasks[1]]

    run(work())
