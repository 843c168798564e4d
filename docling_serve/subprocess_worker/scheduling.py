"""What the pool should do next: pure decisions on a snapshot, no I/O, no processes, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from docling_serve.subprocess_worker.config import WorkerPoolConfig
from docling_serve.subprocess_worker.states import ENDING, RUNNING_A_JOB, StopReason, WorkerState


@dataclass(frozen=True)
class WorkerView:
    """What a decision needs to know of a worker. ``since`` is when it entered its state."""

    number: int
    state: WorkerState
    since: float
    jobs_done: int = 0
    holds_models: bool = False
    give_up: StopReason | None = None

    @property
    def takes_a_slot(self) -> bool:
        """Whether it is one of the ``max_workers`` that may use the device."""
        return self.state in RUNNING_A_JOB or (
            self.holds_models and self.state is not WorkerState.STOPPED
        )


@dataclass(frozen=True)
class PoolView:
    """The pool at time ``now``: jobs that wait, and all workers that are not stopped."""

    now: float
    waiting: int
    workers: Sequence[WorkerView]
    draining: bool = False
    no_start_before: float = 0.0


@dataclass(frozen=True)
class Assign:
    """Give the job that waits longest to this worker."""

    worker: int


@dataclass(frozen=True)
class Start:
    """Start one more worker."""


@dataclass(frozen=True)
class Retire:
    """End this worker, which has no job."""

    worker: int
    reason: StopReason


@dataclass(frozen=True)
class WakeAt:
    """Nothing to do before then, unless something happens."""

    when: float


Decision = Assign | Start | Retire | WakeAt


def decide(view: PoolView, config: WorkerPoolConfig) -> list[Decision]:
    """Everything to do now, in order. Decides the same for the same snapshot."""
    decisions: list[Decision] = []
    idle = _retire_spent(view, config, decisions)
    used = _assign(view, config, idle, decisions)
    waiting = view.waiting - len(used)
    left = [worker for worker in idle if worker.number not in used]
    newly_busy = sum(worker.number in used and not worker.holds_models for worker in idle)
    _balance_spares(view, config, left, waiting, newly_busy, decisions)
    if waiting == 0:
        _retire_idle(view, config, left, decisions)
    return decisions


def _retire_spent(
    view: PoolView, config: WorkerPoolConfig, decisions: list[Decision]
) -> list[WorkerView]:
    """Retire idle workers that must not run another job; returns those that may."""
    usable: list[WorkerView] = []
    for worker in view.workers:
        if worker.state not in (WorkerState.STANDBY, WorkerState.WARM):
            continue
        if worker.give_up is not None:
            decisions.append(Retire(worker.number, worker.give_up))
        elif view.draining:
            decisions.append(Retire(worker.number, StopReason.SHUTDOWN))
        elif 0 < config.max_tasks <= worker.jobs_done:
            decisions.append(Retire(worker.number, StopReason.MAX_TASKS))
        else:
            usable.append(worker)
    return usable


def _assign(
    view: PoolView,
    config: WorkerPoolConfig,
    idle: Sequence[WorkerView],
    decisions: list[Decision],
) -> set[int]:
    """Loaded workers first: they cost nothing more."""
    used: set[int] = set()
    if view.draining:
        return used
    slots = config.max_workers - sum(worker.takes_a_slot for worker in view.workers)
    for worker in sorted(idle, key=lambda worker: not worker.holds_models):
        if len(used) == view.waiting:
            break
        if not worker.holds_models:
            if slots <= 0:
                break
            slots -= 1
        used.add(worker.number)
        decisions.append(Assign(worker.number))
    return used


def _balance_spares(
    view: PoolView,
    config: WorkerPoolConfig,
    left: Sequence[WorkerView],
    waiting: int,
    newly_busy: int,
    decisions: list[Decision],
) -> None:
    """Start or retire workers without models, so that as many are there as will be used."""
    if view.draining:
        return
    live = [worker for worker in view.workers if worker.state not in ENDING]
    slots_taken = sum(worker.takes_a_slot for worker in view.workers) + newly_busy
    # A worker whose job needs no models is spare again when the job ends.
    coming_back = newly_busy + sum(
        worker.state in RUNNING_A_JOB and not worker.holds_models for worker in live
    )
    needed_now = min(waiting, max(0, config.max_workers - slots_taken))
    wanted = needed_now + max(0, config.prewarm - coming_back)
    spare = [worker for worker in left if worker.state is WorkerState.STANDBY]
    starting = sum(worker.state is WorkerState.STARTING for worker in live)
    missing = wanted - len(spare) - starting
    if missing > 0 and view.now < view.no_start_before:
        decisions.append(WakeAt(view.no_start_before))
        return
    decisions.extend([Start()] * max(0, missing))
    surplus = sorted(spare, key=lambda worker: worker.since)[: max(0, -missing)]
    for worker in surplus:
        _expire(view, config, worker, decisions)


def _retire_idle(
    view: PoolView,
    config: WorkerPoolConfig,
    left: Sequence[WorkerView],
    decisions: list[Decision],
) -> None:
    for worker in left:
        if worker.state is WorkerState.WARM:
            _expire(view, config, worker, decisions)


def _expire(
    view: PoolView, config: WorkerPoolConfig, worker: WorkerView, decisions: list[Decision]
) -> None:
    expires = worker.since + config.idle_timeout_s
    if view.now >= expires:
        decisions.append(Retire(worker.number, StopReason.IDLE))
    else:
        decisions.append(WakeAt(expires))
