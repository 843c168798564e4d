"""What the pool should do next: pure decisions on a snapshot, no I/O, no processes, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from docling_serve.subprocess_worker.config import WorkerPoolConfig
from docling_serve.subprocess_worker.states import ENDING, HAS_A_JOB, StopReason, WorkerState


@dataclass(frozen=True)
class WorkerView:
    """What a decision needs to know of a worker.

    ``since`` is when it entered its state. ``light`` says that the job it runs needs no models.
    ``give_up`` ends it as soon as it is idle; ``spent`` is a limit it has reached, or will have
    after its job: it goes once its successor is ready, or when nothing waits.
    """

    number: int
    state: WorkerState
    since: float
    holds_models: bool = False
    light: bool = False
    give_up: StopReason | None = None
    spent: StopReason | None = None

    @property
    def running(self) -> bool:
        """Whether it has a job."""
        return self.state in HAS_A_JOB

    @property
    def takes_a_slot(self) -> bool:
        """Whether it is one of the ``max_workers`` that may use the device."""
        return (self.running and not self.light) or self.holds_models


@dataclass(frozen=True)
class PoolView:
    """The pool at time ``now``: jobs that wait, and all workers that are not stopped.

    Light jobs, which need no models, wait in a line of their own. ``more_coming`` says that a task
    is in parts, of which some are not jobs yet.
    """

    now: float
    waiting: int
    workers: Sequence[WorkerView]
    waiting_light: int = 0
    draining: bool = False
    more_coming: bool = False
    no_start_before: float = 0.0


@dataclass(frozen=True)
class Assign:
    """Give the job that waits longest, in the light line or the other, to this worker."""

    worker: int
    light: bool = False


@dataclass(frozen=True)
class Start:
    """Start one more worker; in the background if a job runs and nothing waits for this one."""

    background: bool = False


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
    plan = _Plan(view, config)
    plan.retire_given_up()
    if not view.draining:
        plan.assign()
        plan.assign_light()
        plan.balance_spares()
    plan.retire_idle()
    return plan.decisions


@dataclass
class _Plan:
    """One round of decisions, and what is left to decide about."""

    view: PoolView
    config: WorkerPoolConfig
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        workers = self.view.workers
        self.standby = [w for w in workers if w.state is WorkerState.STANDBY]
        self.warm = [w for w in workers if w.state is WorkerState.WARM]
        self.waiting = self.view.waiting
        self.waiting_light = self.view.waiting_light
        self.slots = self.config.max_workers - sum(w.takes_a_slot for w in workers)
        # Slots of workers on their way out: nothing can go there yet, but one that is ready waits.
        self.freeing = sum(
            w.takes_a_slot for w in workers if w.state in ENDING - {WorkerState.LOST}
        )
        light = sum(w.running and w.light and not w.holds_models for w in workers)
        self.light_slots = self.config.light_workers - light
        # A worker whose job needs no models is spare again when the job ends.
        self.coming_back = sum(w.running and not w.holds_models for w in workers)

    def retire_given_up(self) -> None:
        """End idle workers that must not run another job, whatever waits. One without models is
        replaced as soon as it is spent: its successor costs no slot."""
        for worker in [*self.standby, *self.warm]:
            reason = StopReason.SHUTDOWN if self.view.draining else worker.give_up
            if reason is None and worker in self.standby:
                reason = worker.spent
            if reason is not None:
                self._retire(worker, reason)

    def assign(self) -> None:
        """Loaded workers first: they cost nothing more. A spent one works on until its successor
        is there, so that the queue sees no gap."""
        fresh = [w for w in self.warm if w.spent is None]
        spent = [w for w in self.warm if w.spent is not None]
        for worker in fresh[: self.waiting]:
            self._assign(worker, light=False)
        for worker in spent:
            if self.waiting == 0:
                break
            if self.standby:
                self._retire(worker, worker.spent or StopReason.MAX_TASKS)
            else:
                self._assign(worker, light=False)
        while self.waiting and self.standby and self.slots > 0:
            self.slots -= 1
            self.coming_back += 1
            self._assign(self.standby[0], light=False)

    def assign_light(self) -> None:
        """Jobs without models run beside the others, within a limit of their own."""
        while self.waiting_light and self.light_slots > 0 and (self.standby or self.warm):
            self.light_slots -= 1
            idle = self.standby or self.warm
            self.coming_back += idle is self.standby
            self._assign(idle[0], light=True)

    def balance_spares(self) -> None:
        """Start or retire workers without models, so that as many are there as will be used."""
        live = [w for w in self.view.workers if w.state not in ENDING]
        used_up = sum(w.spent is not None for w in live if w.running or w in self.warm)
        awaited = (
            min(self.waiting, max(0, self.slots))
            + min(self.waiting_light, max(0, self.light_slots))
            + (used_up if self.waiting else 0)
        )
        wanted = awaited + max(0, self.config.prewarm - self.coming_back)
        starting = sum(w.state is WorkerState.STARTING for w in live)
        missing = wanted - len(self.standby) - starting
        if missing > 0 and self.view.now < self.view.no_start_before:
            self.decisions.append(WakeAt(self.view.no_start_before))
            return
        urgent = awaited - len(self.standby) - starting
        busy = any(w.running for w in live)
        self.decisions.extend(
            Start(background=busy and number >= urgent) for number in range(missing)
        )
        soon = min(self.waiting, max(0, self.slots) + self.freeing) - min(
            self.waiting, max(0, self.slots)
        )
        # Those that come back are not here yet: as many as are to be kept ready may stay.
        kept = wanted + soon + min(self.coming_back, self.config.prewarm)
        surplus = max(0, len(self.standby) - kept)
        for worker in sorted(self.standby, key=lambda w: w.since)[:surplus]:
            self._expire(worker)

    def retire_idle(self) -> None:
        """End loaded workers that nothing waits for."""
        for worker in list(self.warm):
            if worker.spent is not None:
                self._retire(worker, worker.spent)
            else:
                self._expire(worker)

    def _assign(self, worker: WorkerView, *, light: bool) -> None:
        (self.warm if worker in self.warm else self.standby).remove(worker)
        if light:
            self.waiting_light -= 1
        else:
            self.waiting -= 1
        self.decisions.append(Assign(worker.number, light))

    def _retire(self, worker: WorkerView, reason: StopReason) -> None:
        (self.warm if worker in self.warm else self.standby).remove(worker)
        self.freeing += worker.takes_a_slot
        self.decisions.append(Retire(worker.number, reason))

    def _expire(self, worker: WorkerView) -> None:
        if self.view.more_coming and not self.view.draining:
            return
        expires = worker.since + self.config.idle_timeout_s
        if self.view.now >= expires:
            self._retire(worker, StopReason.IDLE)
        else:
            self.decisions.append(WakeAt(expires))
