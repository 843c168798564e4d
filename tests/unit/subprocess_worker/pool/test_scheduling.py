"""Snapshots of a pool and what must be decided on them; ``NOW`` is 100 s."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from docling_serve.subprocess_worker.pool.scheduling import (
    Assign,
    Decision,
    PoolView,
    Rest,
    Retire,
    Start,
    WakeAt,
    WorkerView,
    decide,
    starts_awaited,
)
from docling_serve.subprocess_worker.pool.states import StopReason, WorkerState
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

NOW = 100.0


def _worker(state: WorkerState, number: int, **more: Any) -> WorkerView:
    return WorkerView(number, state, **{"since": NOW, **more})


def starting(number: int) -> WorkerView:
    return _worker(WorkerState.STARTING, number)


def standby(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.STANDBY, number, **more)


def warm(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.WARM, number, holds_models=True, **more)


def busy(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.BUSY, number, **more)


def booking(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.BOOKING, number, **more)


def loading(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.LOADING, number, **more)


def resting(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.RESTING, number, holds_models=True, lean=True, **more)


def stopping(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.STOPPING, number, **more)


def releasing(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.RELEASING, number, **more)


def lost(number: int, **more: Any) -> WorkerView:
    return _worker(WorkerState.LOST, number, **more)


@dataclass(frozen=True)
class Case:
    says: str
    expected: list[Decision]
    workers: list[WorkerView] = field(default_factory=list)
    waiting: int = 0
    light: int = 0
    view: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.says.replace(" ", "-")


IDLE_10 = {"idle_timeout_s": 10.0}
TWO = {"max_workers": 2, **IDLE_10}

ASSIGNING = [
    Case("nothing waits, nobody is there", []),
    Case("a first job starts a worker", [Start()], waiting=1),
    Case("two jobs and one slot start one worker", [Start()], waiting=2),
    Case("two jobs and two slots start two", [Start(), Start()], waiting=2, limits=TWO),
    Case("a worker under way is enough", [], [starting(1)], waiting=1),
    Case("a standby worker takes the job", [Assign(1)], [standby(1)], waiting=1),
    Case("a loaded worker takes the job", [Assign(1)], [warm(1)], waiting=1),
    Case(
        "loaded ones go first",
        [Assign(2)],
        [standby(1), warm(2)],
        waiting=1,
        limits=TWO | {"prewarm": 1},
    ),
    Case(
        "then those on standby",
        [Assign(2), Assign(1)],
        [standby(1), warm(2)],
        waiting=2,
        limits=TWO,
    ),
    Case(
        "a standby worker waits for a slot",
        [],
        [busy(1, holds_models=True), standby(2)],
        waiting=1,
        limits={"prewarm": 1},
    ),
]

NETWORK = {"network": [True, False], "network_light": [True, False]}
OFFLINE = [
    Case(
        "a job that needs the network goes to a worker that has it, the next one to the other",
        [Assign(2), Assign(1)],
        [warm(1, offline=True), warm(2)],
        waiting=2,
        limits=TWO,
        view=NETWORK,
    ),
    Case(
        "rather to one on standby than to a loaded one without",
        [Assign(2), Assign(1)],
        [warm(1, offline=True), standby(2)],
        waiting=2,
        limits=TWO,
        view=NETWORK,
    ),
    Case(
        "where all slots are taken, to the loaded one, which is replaced",
        [Assign(1)],
        [warm(1, offline=True), standby(2)],
        waiting=2,
        limits={"prewarm": 1},
        view=NETWORK,
    ),
    Case(
        "light jobs likewise",
        [Assign(2, light=True), Assign(1, light=True)],
        [standby(1, offline=True), standby(2)],
        light=2,
        limits={"light_workers": 2},
        view=NETWORK,
    ),
    Case(
        "a job that needs none goes to the first",
        [Assign(1), WakeAt(NOW + 10)],
        [warm(1, offline=True), warm(2)],
        waiting=1,
        limits=TWO,
        view={"network": [False]},
    ),
]

SLOTS = [
    Case("a job under way takes a slot", [], [busy(1)], waiting=1),
    Case("so does a job that loads models", [], [loading(1)], waiting=1),
    Case("so does one that waits for device memory", [], [booking(1)], waiting=1),
    Case("and it is to come back", [], [booking(1)], limits={"prewarm": 1}),
    Case("and it is not idle", [], [booking(1, holds_models=True, since=0.0)]),
    Case("a loaded idle worker takes its own slot", [Assign(1)], [warm(1)], waiting=2),
    Case(
        "an ending worker with models keeps its slot",
        [],
        [stopping(1, holds_models=True), standby(2)],
        waiting=1,
        limits={"prewarm": 1},
    ),
    Case(
        "also while its memory comes back",
        [],
        [releasing(1, holds_models=True), standby(2)],
        waiting=1,
        limits={"prewarm": 1},
    ),
    Case(
        "a lost worker with models keeps it for good",
        [],
        [lost(1, holds_models=True), standby(2)],
        waiting=1,
        limits={"prewarm": 1},
    ),
    Case("an ending standby worker keeps none", [Assign(2)], [stopping(1), standby(2)], waiting=1),
    Case("nothing is started while no slot is free", [], [stopping(1, holds_models=True)], 1),
]

LIGHT = [
    Case("a light job starts a worker of its own", [Start()], [busy(1)], light=1),
    Case("it runs beside a heavy one", [Assign(2, light=True)], [busy(1), standby(2)], light=1),
    Case(
        "one of each are assigned at once",
        [Assign(1), Assign(2, light=True)],
        [standby(1), standby(2)],
        waiting=1,
        light=1,
    ),
    Case("the lane has its own limit", [], [busy(1), busy(2, light=True)], light=1),
    Case("and uses a slot that nothing else waits for", [Start()], [busy(1, light=True)], light=1),
    Case(
        "with the worker that is there",
        [Assign(2, light=True)],
        [busy(1, light=True), standby(2)],
        light=1,
    ),
    Case(
        "but not one that another job waits for",
        [Assign(2)],
        [busy(1, light=True), standby(2)],
        waiting=1,
        light=1,
    ),
    Case(
        "a light job does not take a heavy slot",
        [Assign(2)],
        [busy(1, light=True), standby(2)],
        waiting=1,
    ),
    Case(
        "a light job that loaded models does",
        [],
        [busy(1, light=True, holds_models=True), standby(2)],
        waiting=1,
        limits={"prewarm": 1},
    ),
    Case("an idle loaded worker may take it", [Assign(1, light=True)], [warm(1)], light=1),
    Case(
        "rather than that one on standby does",
        [Assign(2, light=True), WakeAt(NOW + 10)],
        [warm(1), standby(2)],
        light=1,
        limits=IDLE_10,
    ),
    Case(
        "two lanes of two",
        [Assign(2, light=True), Start()],
        [busy(1), standby(2)],
        light=2,
        limits={"light_workers": 2},
    ),
]

SPARES = [
    Case("standby processes are started", [Start(), Start()], limits={"prewarm": 2}),
    Case("and kept", [], [standby(1), standby(2)], limits={"prewarm": 2}),
    Case("those under way count", [Start()], [standby(1), starting(2)], limits={"prewarm": 3}),
    Case(
        "a job without models so far is to come back",
        [],
        [busy(1)],
        limits={"prewarm": 1},
    ),
    Case(
        "once it holds models, it is replaced",
        [Start()],
        [busy(1, holds_models=True)],
        limits={"prewarm": 1},
    ),
    Case(
        "unless it can rest when its job is done",
        [],
        [busy(1, holds_models=True, lean=True)],
        limits={"prewarm": 1},
    ),
    Case(
        "one is started for the job that waits, and one to keep",
        [Start(), Start()],
        [busy(1, holds_models=True)],
        waiting=1,
        limits={"prewarm": 1, "max_workers": 2},
    ),
    Case(
        "a spare that was just given a job is to come back",
        [Assign(1)],
        [standby(1)],
        waiting=1,
        limits={"prewarm": 1},
    ),
    Case(
        "one spare, two jobs, one slot",
        [Assign(1)],
        [standby(1)],
        waiting=2,
        limits={"prewarm": 1},
    ),
    Case(
        "an ending worker is no spare",
        [Start()],
        [stopping(1)],
        limits={"prewarm": 1},
    ),
    Case(
        "surplus goes, the longest idle first",
        [Retire(2, StopReason.IDLE)],
        [standby(1, since=50.0), standby(2, since=40.0)],
        limits={"prewarm": 1, "spare_timeout_s": 40.0},
    ),
    Case(
        "where some are kept, more may stay a while",
        [WakeAt(NOW + 60)],
        [standby(1), standby(2)],
        limits={"prewarm": 1},
    ),
    Case(
        "surplus stays for its time",
        [WakeAt(105.0)],
        [standby(1, since=95.0)],
        limits=IDLE_10,
    ),
    Case(
        "surplus goes after its time",
        [Retire(1, StopReason.IDLE)],
        [standby(1, since=90.0)],
        limits=IDLE_10,
    ),
]

ENDINGS = [
    Case("an idle loaded worker goes at once", [Retire(1, StopReason.IDLE)], [warm(1)]),
    Case("or after its time", [WakeAt(103.0)], [warm(1, since=93.0)], limits=IDLE_10),
    Case("exactly then", [Retire(1, StopReason.IDLE)], [warm(1, since=90.0)], limits=IDLE_10),
    Case("not while it runs a job", [], [busy(1, holds_models=True, since=0.0)]),
    Case(
        "one that was given up goes at once",
        [Retire(1, StopReason.CLEARED)],
        [warm(1, give_up=StopReason.CLEARED)],
        limits=IDLE_10,
    ),
    Case(
        "whatever waits, and its slot with it",
        [Retire(1, StopReason.CLEARED)],
        [warm(1, give_up=StopReason.CLEARED)],
        waiting=1,
        limits=IDLE_10,
    ),
    Case(
        "one that was given up finishes its job",
        [],
        [busy(1, holds_models=True, give_up=StopReason.CLEARED)],
        limits=IDLE_10,
    ),
    Case(
        "a spent one goes when nothing waits",
        [Retire(1, StopReason.MAX_TASKS)],
        [warm(1, spent=StopReason.MAX_TASKS)],
        limits=IDLE_10,
    ),
    Case(
        "a spent one works on until its successor is there",
        [Assign(1), Start()],
        [warm(1, spent=StopReason.MAX_RSS)],
        waiting=2,
        limits=IDLE_10 | {"max_workers": 2},
    ),
    Case(
        "and goes when it is",
        [Retire(1, StopReason.MAX_RSS)],
        [warm(1, spent=StopReason.MAX_RSS), standby(2)],
        waiting=1,
    ),
    Case(
        "its successor is kept until the slot is free",
        [],
        [stopping(1, holds_models=True), standby(2)],
        waiting=1,
    ),
    Case(
        "and while the memory comes back",
        [],
        [releasing(1, holds_models=True), standby(2)],
        waiting=1,
    ),
    Case(
        "the successor of a running worker starts while something waits",
        [Start()],
        [busy(1, holds_models=True, spent=StopReason.MAX_TASKS)],
        waiting=1,
    ),
    Case(
        "but not for nothing",
        [],
        [busy(1, holds_models=True, spent=StopReason.MAX_TASKS)],
    ),
    Case(
        "a spent worker without models is replaced too",
        [Retire(1, StopReason.MAX_TASKS), Start()],
        [standby(1, spent=StopReason.MAX_TASKS)],
        limits={"prewarm": 1},
    ),
    Case(
        "one that has grown first gets a successor",
        [Start()],
        [standby(1, spent=StopReason.GROWTH)],
        limits={"prewarm": 1},
    ),
    Case(
        "it stays until that is there",
        [],
        [standby(1, spent=StopReason.GROWTH), starting(2)],
        limits={"prewarm": 1},
    ),
    Case(
        "works while it stays",
        [Assign(1)],
        [standby(1, spent=StopReason.GROWTH), starting(2)],
        waiting=1,
        limits={"prewarm": 1},
    ),
    Case(
        "and then goes",
        [Retire(1, StopReason.GROWTH)],
        [standby(1, spent=StopReason.GROWTH), standby(2)],
        limits={"prewarm": 1},
    ),
    Case(
        "at once where none is kept",
        [Retire(1, StopReason.GROWTH)],
        [standby(1, spent=StopReason.GROWTH)],
    ),
]

KEEP_ONE = {"prewarm": 1, "rest_after_s": 3.0}

RESTING = [
    Case("a lean worker rests", [Rest(1)], [warm(1, lean=True, since=97.0)], limits=KEEP_ONE),
    Case(
        "after its time",
        [WakeAt(NOW + 1)],
        [warm(1, lean=True, since=98.0)],
        limits=KEEP_ONE,
    ),
    Case(
        "which a longer idle timeout lengthens",
        [WakeAt(NOW + 7)],
        [warm(1, lean=True, since=97.0)],
        limits=KEEP_ONE | IDLE_10,
    ),
    Case("another one ends", [Start(), Retire(1, StopReason.IDLE)], [warm(1)], limits=KEEP_ONE),
    Case(
        "so does a lean one where none is kept", [Retire(1, StopReason.IDLE)], [warm(1, lean=True)]
    ),
    Case(
        "one that reached a limit ends",
        [Start(), Retire(1, StopReason.GROWTH)],
        [warm(1, lean=True, spent=StopReason.GROWTH)],
        limits=KEEP_ONE,
    ),
    Case(
        "one that only has to give up its models rests at once",
        [Rest(1)],
        [warm(1, lean=True, give_up=StopReason.CLEARED)],
        limits=KEEP_ONE,
    ),
    Case("what rests is to come back", [], [resting(1)], limits=KEEP_ONE),
    Case("and keeps its slot meanwhile", [], [resting(1)], waiting=1, limits=KEEP_ONE),
    Case(
        "at the end it does not rest",
        [Retire(1, StopReason.SHUTDOWN)],
        [warm(1, lean=True, since=0.0)],
        view={"draining": True},
        limits=KEEP_ONE,
    ),
]

JUST_NOW = {"waiting_since": NOW, "waiting_light_since": NOW}
A_WHILE = {"waiting_since": NOW - 0.25, "waiting_light_since": NOW - 0.25}

PATIENCE = [
    Case(
        "a job waits a moment for a worker that is soon free",
        [WakeAt(NOW + 0.25)],
        [busy(1, light=True)],
        light=1,
        view=JUST_NOW,
    ),
    Case("and no longer", [Start()], [busy(1, light=True)], light=1, view=A_WHILE),
    Case(
        "one that rests is soon free",
        [WakeAt(NOW + 0.25)],
        [resting(1)],
        light=1,
        view=JUST_NOW,
        limits=KEEP_ONE,
    ),
    Case("one that runs a scan is not", [Start()], [busy(1)], light=1, view=JUST_NOW),
    Case(
        "it serves one job",
        [WakeAt(NOW + 0.25), Start()],
        [busy(1, light=True)],
        light=2,
        view=JUST_NOW,
        limits={"light_workers": 2},
    ),
    Case(
        "a job with models waits for it too",
        [WakeAt(NOW + 0.25)],
        [busy(1, light=True)],
        waiting=1,
        view=JUST_NOW,
    ),
]

DRAINING = {"draining": True}

LIMITS = [
    Case(
        "draining ends all that are idle",
        [Retire(1, StopReason.SHUTDOWN), Retire(2, StopReason.SHUTDOWN)],
        [standby(1), warm(2)],
        view=DRAINING,
        limits=IDLE_10,
    ),
    Case(
        "draining leaves those that run or start",
        [],
        [busy(1), loading(2), starting(3)],
        view=DRAINING,
        limits={"prewarm": 3},
    ),
    Case("draining starts nothing", [], waiting=3, light=3, view=DRAINING, limits={"prewarm": 1}),
    Case(
        "after a failed start the next one has to wait",
        [WakeAt(101.0)],
        waiting=1,
        view={"no_start_before": 101.0},
    ),
    Case("until its time has come", [Start()], waiting=1, view={"no_start_before": 100.0}),
    Case(
        "those that are there work meanwhile",
        [Assign(1), WakeAt(101.0)],
        [standby(1)],
        waiting=2,
        view={"no_start_before": 101.0},
        limits=TWO,
    ),
    Case("and nothing wakes up for nothing", [], [], view={"no_start_before": 101.0}),
]


MORE = {"more_coming": True}

IN_PARTS = [
    Case("idle workers wait for the next part", [], [standby(1), warm(2)], view=MORE, limits=TWO),
    Case(
        "those that are to go do not",
        [Retire(1, StopReason.CLEARED)],
        [warm(1, give_up=StopReason.CLEARED)],
        view=MORE,
    ),
    Case(
        "nor do any at the end",
        [Retire(1, StopReason.SHUTDOWN)],
        [warm(1)],
        view=MORE | {"draining": True},
    ),
    Case("and none is started for it", [], view=MORE, limits=TWO),
]
CASES = [
    *(
        *ASSIGNING,
        *OFFLINE,
        *SLOTS,
        *LIGHT,
        *SPARES,
        *ENDINGS,
        *RESTING,
        *PATIENCE,
        *LIMITS,
        *IN_PARTS,
    )
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_decisions(case: Case) -> None:
    view = PoolView(NOW, case.waiting, case.workers, waiting_light=case.light, **case.view)

    assert decide(view, WorkerPoolConfig(**case.limits)) == case.expected


def test_the_same_snapshot_gives_the_same_decisions() -> None:
    workers = [standby(1), warm(2), busy(3), warm(4, since=0.0), stopping(5, holds_models=True)]
    view = PoolView(NOW, 1, workers, waiting_light=1)
    config = WorkerPoolConfig(max_workers=4, prewarm=2, idle_timeout_s=5.0)

    assert decide(view, config) == decide(view, config)


@pytest.mark.parametrize("waiting", range(4))
@pytest.mark.parametrize("light", range(3))
@pytest.mark.parametrize("prewarm", range(3))
def test_no_more_jobs_are_assigned_than_wait_nor_twice_to_a_worker(
    waiting: int, light: int, prewarm: int
) -> None:
    workers = [standby(1), warm(2), standby(3), busy(4), warm(5), starting(6)]
    view = PoolView(NOW, waiting, workers, waiting_light=light)
    config = WorkerPoolConfig(max_workers=4, light_workers=2, prewarm=prewarm, idle_timeout_s=9)

    decisions = decide(view, config)

    assigned = [decision for decision in decisions if isinstance(decision, Assign)]
    gone = {decision.worker for decision in decisions if isinstance(decision, Retire)}
    numbers = [decision.worker for decision in assigned]
    assert sum(not decision.light for decision in assigned) <= waiting
    assert sum(decision.light for decision in assigned) <= light
    assert len(set(numbers)) == len(numbers)
    assert not gone & set(numbers)


# ---- who waits for a start -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "waiting", "waiting_light", "awaited"),
    [
        ([starting(1)], 1, 0, (1, 0)),
        ([starting(1)], 2, 0, (1, 0)),  # there is one slot
        ([starting(1)], 0, 1, (0, 1)),
        ([busy(1)], 1, 0, (0, 0)),
        ([busy(1), starting(2)], 1, 0, (0, 0)),  # it waits for the slot
        ([busy(1), starting(2)], 1, 1, (0, 1)),
        ([], 1, 1, (0, 0)),
    ],
)
def test_who_waits_for_nothing_but_a_start(
    workers: list[WorkerView], waiting: int, waiting_light: int, awaited: tuple[int, int]
) -> None:
    view = PoolView(NOW, waiting, workers, waiting_light=waiting_light)

    assert starts_awaited(view, WorkerPoolConfig(max_workers=1, light_workers=1)) == awaited
