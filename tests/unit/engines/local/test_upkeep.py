"""What goes by the clock; the clock is the test's."""

from __future__ import annotations

import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError
from hypothesis import given, settings

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.engines.local.journal import TaskRow
from docling_serve.engines.local.lines import QueueLimits
from docling_serve.engines.local.upkeep import RetentionRules
from tests.unit.engines.hand_runner import REPLY, HandRunner, finished, left_in, opened, submit


async def test_a_task_that_waits_too_long_fails_and_says_why(tmp_path: Path) -> None:
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


async def test_old_tasks_are_forgotten_with_their_results(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner, retention=RetentionRules(max_age_s=60)) as engine:
        done, running = await submit(engine, 2)
        runner.end(done)
        await finished(engine, done)
        await engine._upkeep.round(time.time() + 61)

        with pytest.raises(TaskNotFoundError):
            await engine.view(done)
        assert left_in(tmp_path) == [running]


async def test_results_beyond_the_room_for_them_go_the_oldest_first(tmp_path: Path) -> None:
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


# ---- which results go ----------------------------------------------------------------------------

NOW = 1000.0


def finished_task(name: str, finished: float, size: int = 0, fetched: bool = False) -> TaskRow:
    read = finished if fetched else None
    return TaskRow(
        name, "a", "convert", 1, created=0.0, finished=finished, fetched=read, result_bytes=size
    )


TASKS = st.lists(
    st.builds(
        finished_task,
        st.uuids().map(str),
        st.floats(0, NOW),
        st.integers(0, 100),
        fetched=st.booleans(),
    ),
    max_size=20,
)


def removed(rules: RetentionRules, *tasks: TaskRow) -> list[str]:
    return [task.task_id for task in rules.to_remove(tasks, NOW)]


def test_without_limits_everything_stays() -> None:
    assert removed(RetentionRules(), finished_task("a", 0.0, 10**12)) == []


def test_what_is_too_old_goes() -> None:
    assert removed(
        RetentionRules(max_age_s=10), finished_task("old", 989.0), finished_task("new", 991.0)
    ) == ["old"]


def test_results_go_from_the_oldest_until_the_rest_fits() -> None:
    tasks = [finished_task("c", 3.0, 40), finished_task("a", 1.0, 40), finished_task("b", 2.0, 40)]

    assert removed(RetentionRules(max_bytes=50), *tasks) == ["a", "b"]


def test_results_that_were_read_go_first() -> None:
    tasks = [finished_task("unread", 1.0, 40), finished_task("read", 2.0, 40, fetched=True)]

    assert removed(RetentionRules(max_bytes=50), *tasks) == ["read"]


def test_a_task_without_a_result_makes_no_room() -> None:
    tasks = [finished_task("failed", 1.0, 0), finished_task("big", 2.0, 60)]

    assert removed(RetentionRules(max_bytes=50), *tasks) == ["big"]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(TASKS, st.floats(0, NOW), st.integers(0, 500))
def test_what_stays_is_within_the_limits(tasks: list[TaskRow], age_s: float, size: int) -> None:
    rules = RetentionRules(age_s, size)
    gone = rules.to_remove(tasks, NOW)
    kept = [task for task in tasks if task not in gone]

    assert len(gone) == len({task.task_id for task in gone}), "each once"
    assert not age_s or all(NOW - (task.finished or 0.0) <= age_s for task in kept)
    assert not size or sum(task.result_bytes for task in kept) <= size
    assert rules.to_remove(kept, NOW) == [], "it is done in one go"
