from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from docling_serve.engines.local.retention import FinishedTask, RetentionRules

NOW = 1000.0
TASKS = st.lists(
    st.builds(
        FinishedTask,
        task_id=st.uuids().map(str),
        finished=st.floats(0, NOW),
        result_bytes=st.integers(0, 100),
        fetched=st.booleans(),
    ),
    max_size=20,
)


def task(name: str, finished: float, size: int = 0, fetched: bool = False) -> FinishedTask:
    return FinishedTask(name, finished, size, fetched)


def removed(rules: RetentionRules, *tasks: FinishedTask) -> list[str]:
    return [task.task_id for task in rules.to_remove(tasks, NOW)]


def test_without_limits_everything_stays() -> None:
    assert removed(RetentionRules(), task("a", 0.0, 10**12)) == []


def test_what_is_too_old_goes() -> None:
    assert removed(RetentionRules(max_age_s=10), task("old", 989.0), task("new", 991.0)) == ["old"]


def test_results_go_from_the_oldest_until_the_rest_fits() -> None:
    tasks = [task("c", 3.0, 40), task("a", 1.0, 40), task("b", 2.0, 40)]

    assert removed(RetentionRules(max_bytes=50), *tasks) == ["a", "b"]


def test_results_that_were_read_go_first() -> None:
    tasks = [task("unread", 1.0, 40), task("read", 2.0, 40, fetched=True)]

    assert removed(RetentionRules(max_bytes=50), *tasks) == ["read"]


def test_a_task_without_a_result_makes_no_room() -> None:
    tasks = [task("failed", 1.0, 0), task("big", 2.0, 60)]

    assert removed(RetentionRules(max_bytes=50), *tasks) == ["big"]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(TASKS, st.floats(0, NOW), st.integers(0, 500))
def test_what_stays_is_within_the_limits(
    tasks: list[FinishedTask], age_s: float, size: int
) -> None:
    rules = RetentionRules(age_s, size)
    gone = rules.to_remove(tasks, NOW)
    kept = [task for task in tasks if task not in gone]

    assert len(gone) == len({task.task_id for task in gone}), "each once"
    assert not age_s or all(NOW - task.finished <= age_s for task in kept)
    assert not size or sum(task.result_bytes for task in kept) <= size
    assert rules.to_remove(kept, NOW) == [], "it is done in one go"
