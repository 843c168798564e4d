from __future__ import annotations

import re

import pytest

from docling_serve.engines.local import states
from docling_serve.engines.local.states import (
    JOURNALED,
    MAY_COME_FROM,
    SETTLED,
    TRANSITIONS,
    TaskState,
)

S = TaskState


def _reachable(start: TaskState) -> set[TaskState]:
    seen: set[TaskState] = set()
    ahead = {start}
    while ahead:
        state = ahead.pop()
        seen.add(state)
        ahead |= TRANSITIONS[state] - seen
    return seen


def test_the_table_names_every_state() -> None:
    assert set(TRANSITIONS) == set(TaskState)


def test_every_state_is_reached_from_the_queue() -> None:
    assert _reachable(S.QUEUED) == set(TaskState)


@pytest.mark.parametrize("state", sorted(set(TaskState) - SETTLED))
def test_every_task_can_end_and_can_be_left_for_the_next_server(state: TaskState) -> None:
    assert _reachable(state) >= SETTLED


def test_a_settled_task_goes_nowhere() -> None:
    assert {state for state, onward in TRANSITIONS.items() if not onward} == SETTLED


def test_an_end_is_written_before_it_is_told() -> None:
    before = {state for state, onward in TRANSITIONS.items() if onward & SETTLED}

    assert before == {S.ENDING}


def test_the_journal_sees_these_moves_and_no_others() -> None:
    assert MAY_COME_FROM == {
        S.QUEUED: (S.STARTED,),
        S.STARTED: (S.QUEUED,),
        S.SUCCESS: (S.QUEUED, S.STARTED),
        S.FAILURE: (S.QUEUED, S.STARTED),
    }


def test_the_journal_has_a_word_for_whatever_it_may_be_told() -> None:
    assert set(JOURNALED.values()) == set(MAY_COME_FROM)
    assert set(JOURNALED) >= SETTLED


def test_the_drawing_and_the_states_have_the_same_names() -> None:
    assert states.__doc__ is not None
    drawing = states.__doc__.split("::", 1)[1]
    assert set(re.findall(r"[A-Z_]{3,}", drawing)) == {state.name for state in TaskState}


def test_names_and_values_agree() -> None:
    assert [state.value for state in TaskState] == [state.name.lower() for state in TaskState]
