from __future__ import annotations

import re

import pytest

from docling_serve.subprocess_worker.pool import states
from docling_serve.subprocess_worker.pool.states import (
    ENDING,
    RUNNING_A_JOB,
    TRANSITIONS,
    StopReason,
    WorkerState,
)


def test_the_table_names_every_state() -> None:
    assert set(TRANSITIONS) == set(WorkerState)
    assert frozenset().union(*TRANSITIONS.values()) <= set(WorkerState)


def test_a_stopped_worker_goes_nowhere() -> None:
    assert TRANSITIONS[WorkerState.STOPPED] == frozenset()
    ends = {state for state, onward in TRANSITIONS.items() if not onward}
    assert ends == {WorkerState.STOPPED}


def _reachable(start: WorkerState) -> set[WorkerState]:
    seen: set[WorkerState] = set()
    ahead = {start}
    while ahead:
        state = ahead.pop()
        seen.add(state)
        ahead |= TRANSITIONS[state] - seen
    return seen


def test_every_state_is_reached_from_the_start() -> None:
    assert _reachable(WorkerState.STARTING) == set(WorkerState)


@pytest.mark.parametrize("state", WorkerState)
def test_every_state_leads_to_the_end(state: WorkerState) -> None:
    assert WorkerState.STOPPED in _reachable(state)


@pytest.mark.parametrize(
    "state", [state for state in WorkerState if state not in {*ENDING, WorkerState.STOPPED}]
)
def test_a_living_worker_can_be_stopped_and_can_die(state: WorkerState) -> None:
    assert {WorkerState.STOPPING, WorkerState.RELEASING} <= TRANSITIONS[state]


@pytest.mark.parametrize("state", sorted(ENDING))
def test_an_ending_worker_gets_no_more_work(state: WorkerState) -> None:
    assert TRANSITIONS[state] <= ENDING | {WorkerState.STOPPED}


def test_no_worker_runs_a_job_and_ends() -> None:
    assert not RUNNING_A_JOB & ENDING


def test_the_diagram_and_the_states_have_the_same_names() -> None:
    assert states.__doc__ is not None
    diagram = states.__doc__.split("::", 1)[1]
    assert set(re.findall(r"[A-Z]{3,}", diagram)) == {state.name for state in WorkerState}


@pytest.mark.parametrize("kind", [WorkerState, StopReason])
def test_names_and_values_agree(kind: type[WorkerState] | type[StopReason]) -> None:
    assert [member.value for member in kind] == [member.name.lower() for member in kind]
