"""What the pool should do next: pure decisions on a snapshot, no I/O, no processes, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from docling_serve.subprocess_worker.pool.states import ENDING, HAS_A_JOB, StopReason, WorkerState
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig


@dataclass(frozen=True)
class WorkerView:
    """What a decision needs to know about a worker.

    ``since`` is when it entered its state. ``light``: the job it runs needs no models. ``lean``:
    dropping its models frees all that they took, so it can rest and be on standby again, where
    another worker has to exit. With ``give_up`` it exits once it is idle, or drops its models if it
    can rest and is only cleared. ``spent`` is a limit that it has reached, or will have reached
    after its job: it exits once its successor is ready, or when no job waits. ``offline``: it has
    given up its network for good.
    """

    number: int
    state: WorkerState
    since: float
    holds_models: bool = False
    lean: bool = False
    light: bool = False
    give_up: StopReason | None = None
    spent: StopReason | None = None
    offline: bool = False

    @property
    def running(self) -> bool:
        """Whether it has a job."""
        return self.state in HAS_A_JOB

    @property
    def takes_a_slot(self) -> bool:
        """Whether it is one of the ``max_workers`` that may use the device."""
        return (self.running and not self.light) or self.holds_models

    @property
    def comes_back(self) -> bool:
        """Whether it will be on standby after its job, or its rest."""
        if self.give_up is not None or self.spent is not None:
            return False
        if self.state in (WorkerState.WARM, WorkerState.RESTING):
            return self.lean
        return self.running and (self.lean or not self.holds_models)

    @property
    def is_soon_free(self) -> bool:
        """Whether that is a matter of milliseconds."""
        return self.state is WorkerState.RESTING or (self.running and self.light)


@dataclass(frozen=True)
class PoolView:
    """The pool at time ``now``: waiting jobs, and all workers that are not stopped.

    Light jobs, which need no models, have a queue of their own. ``waiting_since`` and
    ``waiting_light_since`` say since when each queue was never empty. ``network`` and
    ``network_light`` say of the jobs in each queue whether they need the network. ``more_coming``:
    a task is in parts, some of which are not jobs yet.
    """

    now: float
    waiting: int
    workers: Sequence[WorkerView]
    waiting_light: int = 0
    waiting_since: float = 0.0
    waiting_light_since: float = 0.0
    network: Sequence[bool] = ()
    network_light: Sequence[bool] = ()
    draining: bool = False
    more_coming: bool = False
    no_start_before: float = 0.0


@dataclass(frozen=True)
class Assign:
    """Give the job that waits longest, in the light queue or the other, to this worker."""

    worker: int
    light: bool = False


@dataclass(frozen=True)
class Start:
    """Start one more worker."""


@dataclass(frozen=True)
class Rest:
    """Make this worker drop its models, to be on standby again."""

    worker: int


@dataclass(frozen=True)
class Retire:
    """End this idle worker."""

    worker: int
    reason: StopReason


@dataclass(frozen=True)
class WakeAt:
    """Nothing to do before that time, unless an event arrives."""

    when: float


Decision = Assign | Start | Rest | Retire | WakeAt


def decide(view: PoolView, config: WorkerPoolConfig) -> list[Decision]:
    """Everything to do now, in order. The same snapshot gives the same decisions."""
    plan = _Plan(view, config)
    plan.retire_given_up()
    if not view.draining:
        plan.assign()
        plan.assign_light()
        plan.balance_spares()
    plan.end_idle()
    return plan.decisions


def starts_awaited(view: PoolView, config: WorkerPoolConfig) -> tuple[int, int]:
    """How many jobs at the front of each queue, the one with models first, wait only for a worker
    that is starting."""
    if not any(worker.state is WorkerState.STARTING for worker in view.workers):
        return 0, 0
    plan = _Plan(view, config)
    heavy = min(plan.waiting, max(0, plan.slots))
    return heavy, min(plan.waiting_light, max(0, plan.light_slots()))


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
        # Slots of exiting workers: no job can go there yet, but a ready worker waits for them.
        self.freeing = sum(
            w.takes_a_slot for w in workers if w.state in ENDING - {WorkerState.LOST}
        )
        self.light_running = sum(w.running and w.light and not w.holds_models for w in workers)
        self.coming_back = sum(w.comes_back for w in workers)
        self.soon_free = sum(w.is_soon_free for w in workers)

    def retire_given_up(self) -> None:
        """End idle workers that must not run another job, whatever waits. A worker that only has to
        drop its models may rest; one without models that has grown serves until its successor is
        ready."""
        for worker in [*self.standby, *self.warm]:
            reason = StopReason.SHUTDOWN if self.view.draining else worker.give_up
            if reason is None and worker in self.standby and worker.spent is not StopReason.GROWTH:
                reason = worker.spent
            if reason is StopReason.CLEARED and self._may_rest(worker):
                self._rest(worker)
            elif reason is not None:
                self._retire(worker, reason)

    def assign(self) -> None:
        """Loaded workers first: they cost nothing extra. A spent one keeps working until its
        successor is ready, so that the queue sees no gap."""
        fresh = [w for w in self.warm if w.spent is None]
        spent = [w for w in self.warm if w.spent is not None]
        while fresh and self.waiting:
            worker = self._best(fresh, self.standby if self.slots > 0 else [], light=False)
            if worker in fresh:
                fresh.remove(worker)
            else:
                self.slots -= 1
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
            self._assign(self._best(self.standby, light=False), light=False)

    def assign_light(self) -> None:
        """Jobs without models run in addition to the others, within a limit of their own, and in
        slots that no other job waits for."""
        while self.waiting_light and self.light_slots() > 0 and (self.standby or self.warm):
            self.light_running += 1
            worker = self._best(self.standby, self.warm, light=True)
            self._assign(worker, light=True)

    def balance_spares(self) -> None:
        """Start or retire workers without models, so that there are as many as will be used."""
        live = [w for w in self.view.workers if w.state not in ENDING]
        used_up = sum(w.spent is not None for w in live if w.running or w in self.warm)
        awaited = self._awaited() + (used_up if self.waiting else 0)
        wanted = awaited + max(0, self.config.prewarm - self.coming_back)
        starting = sum(w.state is WorkerState.STARTING for w in live)
        fresh = [w for w in self.standby if w.spent is None]
        missing = wanted - len(fresh) - starting
        if missing > 0 and self.view.now < self.view.no_start_before:
            self.decisions.append(WakeAt(self.view.no_start_before))
            return
        self.decisions.extend(Start() for _ in range(missing))
        soon = min(self.waiting, max(0, self.slots) + self.freeing) - min(
            self.waiting, max(0, self.slots)
        )
        if missing <= 0 and starting == 0:
            for worker in [w for w in self.standby if w.spent is not None]:
                self._retire(worker, StopReason.GROWTH)
        # Returning workers are not here yet: as many as are to be kept ready may stay.
        kept = wanted + soon + min(self.coming_back, self.config.prewarm)
        surplus = max(0, len(fresh) - kept)
        after_s = self.config.spare_timeout_s if self.config.prewarm else self.config.idle_timeout_s
        for worker in sorted(fresh, key=lambda w: w.since)[:surplus]:
            self._expire(worker, after_s)

    def end_idle(self) -> None:
        """Make loaded workers that no job waits for rest or exit."""
        for worker in list(self.warm):
            if worker.spent is not None:
                self._retire(worker, worker.spent)
            elif self._may_rest(worker):
                self._expire(worker, max(self.config.rest_after_s, self.config.idle_timeout_s))
            else:
                self._expire(worker, self.config.idle_timeout_s)

    def light_slots(self) -> int:
        """How many more light jobs may run in addition to the others."""
        idle = max(0, self.slots) if self.waiting == 0 else 0
        return self.config.light_workers + idle - self.light_running

    def _awaited(self) -> int:
        """How many more workers the waiting jobs could use now. A start takes seconds, so a job
        waits for a worker that is about to be free."""
        awaited = 0
        for waiting, slots, since in (
            (self.waiting, self.slots, self.view.waiting_since),
            (self.waiting_light, self.light_slots(), self.view.waiting_light_since),
        ):
            usable = min(waiting, max(0, slots))
            patient_until = since + self.config.patience_s
            if usable and self.soon_free and self.view.now < patient_until:
                self.decisions.append(WakeAt(patient_until))
                usable = max(0, usable - self.soon_free)
            awaited += usable
        return awaited

    def _may_rest(self, worker: WorkerView) -> bool:
        return (
            self.config.prewarm > 0
            and worker.lean
            and worker.state is WorkerState.WARM
            and worker.spent is None
            and not self.view.draining
        )

    def _best(self, *idle: Sequence[WorkerView], light: bool) -> WorkerView:
        """Which worker takes the next job: one of the first group that has any, unless the job
        needs the network and they have given up theirs, and so would have to be replaced."""
        needs, left = self.view.network, self.waiting
        if light:
            needs, left = self.view.network_light, self.waiting_light
        network = bool(needs) and needs[len(needs) - left]
        ranked = [
            (network and worker.offline, group, worker.spent is not None, place, worker)
            for group, workers in enumerate(idle)
            for place, worker in enumerate(workers)
        ]
        return min(ranked)[-1]

    def _assign(self, worker: WorkerView, *, light: bool) -> None:
        if worker in self.standby:
            self.coming_back += worker.spent is None
        (self.warm if worker in self.warm else self.standby).remove(worker)
        if light:
            self.waiting_light -= 1
        else:
            self.waiting -= 1
        self.decisions.append(Assign(worker.number, light))

    def _rest(self, worker: WorkerView) -> None:
        self.coming_back += not worker.comes_back
        self.warm.remove(worker)
        self.decisions.append(Rest(worker.number))

    def _retire(self, worker: WorkerView, reason: StopReason) -> None:
        (self.warm if worker in self.warm else self.standby).remove(worker)
        self.freeing += worker.takes_a_slot
        self.decisions.append(Retire(worker.number, reason))

    def _expire(self, worker: WorkerView, after_s: float) -> None:
        if self.view.more_coming and not self.view.draining:
            return
        expires = worker.since + after_s
        if self.view.now < expires:
            self.decisions.append(WakeAt(expires))
        elif self._may_rest(worker):
            self._rest(worker)
        else:
            self._retire(worker, StopReason.IDLE)
