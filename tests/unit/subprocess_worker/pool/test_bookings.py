from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from docling_serve.subprocess_worker.pool.bookings import make_room
from docling_serve.subprocess_worker.pool.states import StopReason, WorkerState
from docling_serve.subprocess_worker.pool.worker import Worker


@dataclass
class StandInWorker:
    """As much of a worker as making room looks at."""

    state: WorkerState
    holds_models: bool = True
    give_up: StopReason | None = None
    stopped: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        self.stopped = reason


def ended_for_room(*workers: StandInWorker, overdue: bool) -> list[str]:
    """What becomes of each worker."""
    make_room(cast(list[Worker], list(workers)), overdue=overdue)
    room = StopReason.MAKE_ROOM
    return [
        "now" if w.stopped is room else "after its job" if w.give_up is room else "goes on"
        for w in workers
    ]


BUSY, WARM, STANDBY = WorkerState.BUSY, WorkerState.WARM, WorkerState.STANDBY


@pytest.mark.parametrize(
    ("states", "overdue", "expected"),
    [
        ([BUSY, WARM, WARM], False, ["goes on", "now", "goes on"]),
        ([BUSY, WARM], True, ["goes on", "now"]),
        ([BUSY, BUSY], False, ["goes on", "goes on"]),
        ([BUSY, BUSY], True, ["after its job", "goes on"]),
        ([WorkerState.STOPPING, WARM], True, ["goes on", "goes on"]),
        ([WorkerState.LOST, BUSY], False, ["goes on", "goes on"]),
        ([WorkerState.LOST, BUSY], True, ["goes on", "after its job"]),
    ],
)
def test_one_worker_at_a_time_makes_room(
    states: list[WorkerState], overdue: bool, expected: list[str]
) -> None:
    assert ended_for_room(*map(StandInWorker, states), overdue=overdue) == expected


def test_a_worker_without_models_has_no_room_to_make() -> None:
    standby, loading = StandInWorker(STANDBY, False), StandInWorker(WorkerState.LOADING, False)

    assert ended_for_room(standby, loading, overdue=True) == ["goes on", "after its job"]


def test_a_second_round_ends_no_second_worker() -> None:
    workers = [StandInWorker(BUSY), StandInWorker(BUSY)]

    for _ in range(2):
        assert ended_for_room(*workers, overdue=True) == ["after its job", "goes on"]
