"""The states of a task in the local engine, and which moves are legal.

::

    QUEUED ──taken──▶ HANDED_OVER ──begins──▶ STARTED ──server killed──▶ QUEUED
      │                 │       │               │   │
      │                 │       └──cancelled──┐ │   └──────┐
      │                 │                     ▼ ▼          │
      │                 │                   STOPPING       │
      │                 │                      │           │
      └────cancelled────┴──runner has ended────┴───────────┘
                                │
                                ▼
                             ENDING ──written──▶ SUCCESS, FAILURE
                                │
                                └──server ends──▶ PARKED

The drawing for readers is in docs/durability.md; a test compares it with the table.
"""

from __future__ import annotations

from enum import Enum


class TaskState(str, Enum):
    """Where a task stands."""

    #: Waits in its line.
    QUEUED = "queued"
    #: The runner has it and has not started it; to a client it still waits.
    HANDED_OVER = "handed_over"
    #: The runner works on it.
    STARTED = "started"
    #: The runner was asked to stop; its end is awaited.
    STOPPING = "stopping"
    #: The work is over: the end is being written.
    ENDING = "ending"
    #: Has a result.
    SUCCESS = "success"
    #: Finished without a result.
    FAILURE = "failure"
    #: This process no longer handles it; the next server on the folder runs it.
    PARKED = "parked"

    @property
    def finished(self) -> bool:
        """Whether no state follows, in any process."""
        return self in (TaskState.SUCCESS, TaskState.FAILURE)


_S = TaskState

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    _S.QUEUED: frozenset({_S.HANDED_OVER, _S.ENDING}),
    _S.HANDED_OVER: frozenset({_S.STARTED, _S.STOPPING, _S.ENDING}),
    _S.STARTED: frozenset({_S.STOPPING, _S.ENDING, _S.QUEUED}),
    _S.STOPPING: frozenset({_S.ENDING}),
    _S.ENDING: frozenset({_S.SUCCESS, _S.FAILURE, _S.PARKED}),
    _S.SUCCESS: frozenset(),
    _S.FAILURE: frozenset(),
    _S.PARKED: frozenset(),
}

SETTLED = frozenset({_S.SUCCESS, _S.FAILURE, _S.PARKED})
"""This process has nothing more to do for the task."""

JOURNALED: dict[TaskState, TaskState] = {
    _S.QUEUED: _S.QUEUED,
    _S.STARTED: _S.STARTED,
    _S.SUCCESS: _S.SUCCESS,
    _S.FAILURE: _S.FAILURE,
    _S.PARKED: _S.QUEUED,
}
"""How the journal stores a state. It never sees the others: a restart finds the state before."""


def _kept_after(state: TaskState) -> set[TaskState]:
    """The states that the journal may move a task to from ``state``."""
    found: set[TaskState] = set()
    for to in TRANSITIONS[state]:
        found |= {JOURNALED[to]} if to in JOURNALED else _kept_after(to)
    return found


MAY_COME_FROM: dict[TaskState, tuple[TaskState, ...]] = {
    to: tuple(kept for kept in JOURNALED if kept is not to and to in _kept_after(kept))
    for to in dict.fromkeys(JOURNALED.values())
}
"""The same moves as the journal sees them: the states from which a row may reach a state. A queued
row may succeed: its start could not be written when the disk was full."""
