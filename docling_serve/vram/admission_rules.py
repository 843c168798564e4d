"""Which job may start on which GPU: pure decisions on a snapshot, no driver, network or clock.

The rules, applied in this order to each job that waits, the longest waiting first:

1. One worker loads at a time on a GPU, so that what it takes is seen before the next is judged.
2. A job starts on the GPU with the most memory available, if that covers what its kind needs.
   Available is what the driver reports as free, less what was promised to our workers and not yet
   taken.
3. If no GPU has enough, neighbours that could make room are asked to unload, and the job waits
   until the driver shows the memory; a neighbour's answer alone frees nothing. After a job ran out
   of memory the neighbours are asked whatever the driver shows, and the next job waits for their
   answers.
4. If a job could start once workers of ours exit, their GPU is reserved for it, so that smaller
   jobs behind it cannot starve it. A job that waits for other programs lets the ones behind it
   pass.
5. Figures can be wrong, so a job does not wait forever. When neighbours can do no more, the margin
   is dropped after :data:`MARGIN_PATIENCE_S`. On a GPU without workers of ours that is as free as
   it ever was, a job then starts if its figure was learned or exceeds every GPU. It also starts
   where an earlier job stopped waiting for more, if other programs hold no more than they did then.
6. Whatever the figures, the wait ends: :class:`Patience`. Then a job starts with less than it asked
   for. That may be enough; if not, it fails as out of GPU memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from docling_serve.vram.needs import Need

MARGIN_PATIENCE_S = 30.0
"""How long a job waits for the margin on top of what its kind was measured to take."""

TOLERANCE_BYTES = 64 * 1024**2
"""Differences in free memory below this mean nothing; less than the smallest CUDA context."""

_GIB = 1024**3


@dataclass(frozen=True)
class Patience:
    """How many seconds a job waits: ``others_s`` for memory that other programs hold, ``own_s`` in
    any case. The second is longer: after the first, a worker of ours that could make room is to
    exit after its job, and that takes no longer than a job may run."""

    others_s: float = 60.0
    own_s: float = 660.0


@dataclass(frozen=True)
class DeviceView:
    """One GPU, in bytes.

    ``promised`` is booked by our workers and not yet taken. ``held`` is what they have taken,
    ``idle_held`` the part held by workers without a job. ``best_free`` is the most ever seen free.
    ``waited_in_vain``: a job waited for more than is free now, and did not get it.
    """

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    best_free_bytes: int
    promised_bytes: int = 0
    held_bytes: int = 0
    idle_held_bytes: int = 0
    starting: bool = False
    workers: int = 0
    waited_in_vain: bool = False

    @property
    def available_bytes(self) -> int:
        """Free and not promised; negative when more was promised than there is."""
        return self.free_bytes - self.promised_bytes

    @property
    def without_ours_bytes(self) -> int:
        """What would be free if our workers exited."""
        return self.free_bytes + self.held_bytes

    @property
    def without_others_bytes(self) -> int:
        """What would be available if every other program left."""
        return self.total_bytes - self.held_bytes - self.promised_bytes


@dataclass(frozen=True)
class RequestView:
    """A job that waits to start."""

    number: int
    need: Need
    waited_s: float = 0.0


@dataclass(frozen=True)
class NeighbourView:
    """The other programs that can be asked to unload.

    ``may_be_asked`` now; ``may_still_free``: one is being asked, or agreed a moment ago.
    ``must_answer``: they are being asked because a job ran out of memory while sharing the GPU.
    """

    may_be_asked: bool = False
    may_still_free: bool = False
    must_answer: bool = False


@dataclass(frozen=True)
class Admit:
    """Start it on this GPU. ``warning`` says why, if less memory is available than asked for;
    ``in_vain``: its patience has run out."""

    number: int
    device_uuid: str
    booked_bytes: int
    warning: str = ""
    in_vain: bool = False


@dataclass(frozen=True)
class Wait:
    """Not yet. ``for_own_workers``: it could start if workers of ours exited; ``overdue``: even a
    busy one should exit after its job. ``cause`` stays the same while only figures in ``reason``
    change."""

    number: int
    cause: str
    reason: str
    for_own_workers: bool = False
    overdue: bool = False


@dataclass(frozen=True)
class Plan:
    """One decision per request, in their order, and whether to ask the neighbours to unload."""

    decisions: tuple[Admit | Wait, ...]
    ask_neighbours: bool = False


def decide(
    requests: Sequence[RequestView],
    devices: Sequence[DeviceView],
    neighbours: NeighbourView,
    patience: Patience,
) -> Plan:
    """What to do now; ``devices`` is not empty. The same snapshot gives the same answer."""
    plan = _Plan(devices, neighbours, patience)
    decisions = tuple(plan.decide_one(request) for request in requests)
    return Plan(decisions, plan.ask_neighbours)


class _Plan:
    def __init__(
        self, devices: Sequence[DeviceView], neighbours: NeighbourView, patience: Patience
    ) -> None:
        self._devices = sorted(devices, key=lambda each: each.available_bytes, reverse=True)
        self._neighbours = neighbours
        self._patience = patience
        # Where no job may start in this round: a worker is loading there, or the place is reserved.
        self._closed = {each.uuid for each in devices if each.starting}
        self._given: set[str] = set()
        self.ask_neighbours = False

    def decide_one(self, request: RequestView) -> Admit | Wait:
        need = request.need
        if need.total_bytes == 0:
            return Admit(request.number, self._devices[0].uuid, 0)
        if self._neighbours.must_answer and request.waited_s < self._patience.others_s:
            reason = "a task ran out of GPU memory; neighbours are asked to unload"
            return Wait(request.number, "neighbours", reason)
        for device in self._open():
            if device.available_bytes >= need.total_bytes:
                return self._admit(request, device)
        if request.waited_s >= self._patience.own_s:
            return self._start_anyway(request, [*self._open(), *self._devices][0])
        for device in self._devices:
            if device.available_bytes >= need.total_bytes:
                return self._wait_for_turn(request, device)
        return self._short(request)

    def _wait_for_turn(self, request: RequestView, device: DeviceView) -> Wait:
        if device.starting or device.uuid in self._given:
            reason = f"another worker is loading its models on {_called(device)}"
        else:
            reason = f"{_called(device)} is reserved for a task that has waited longer"
        return Wait(request.number, "turn", reason)

    def _short(self, request: RequestView) -> Admit | Wait:
        need = request.need.total_bytes
        patience_over = request.waited_s >= self._patience.others_s
        ours = [each for each in self._devices if each.workers and each.without_ours_bytes >= need]
        self._closed.update(each.uuid for each in ours)
        idle_would_do = any(e.available_bytes + e.idle_held_bytes >= need for e in ours)
        could_help = any(
            each.without_others_bytes >= min(need, each.total_bytes) for each in self._devices
        )
        if could_help and self._neighbours.may_be_asked and not idle_would_do:
            self.ask_neighbours = True
        elif not (could_help and self._neighbours.may_still_free):
            for device in self._open():
                warning = self._good_enough(request, device, own_could_end=bool(ours))
                if warning:
                    return self._admit(request, device, warning)
        if patience_over and not ours and (open_ones := self._open()):
            return self._start_anyway(request, open_ones[0])
        return self._wait(request, ours, overdue=patience_over)

    def _good_enough(
        self, request: RequestView, device: DeviceView, *, own_could_end: bool
    ) -> str | None:
        """Why to start on ``device`` anyway, with less memory than asked for; None if not."""
        need = request.need
        free = f"{_gib(device.available_bytes)} available on {_called(device)}"
        margin_over = request.waited_s >= min(MARGIN_PATIENCE_S, self._patience.others_s)
        if need.learned and margin_over and device.available_bytes >= need.figure_bytes:
            return f"{_gib(need.figure_bytes)} expected, {free}: started without a margin"
        if device.workers or own_could_end:
            return None
        as_free_as_ever = device.free_bytes >= device.best_free_bytes - TOLERANCE_BYTES
        fits_no_device = all(need.total_bytes > each.total_bytes for each in self._devices)
        if as_free_as_ever and (fits_no_device or need.learned):
            return f"{_gib(need.total_bytes)} needed, {free} and never more: started anyway"
        if device.waited_in_vain:
            return (
                f"{_gib(need.total_bytes)} needed, {free}, and waiting for more did not help an"
                " earlier task: started anyway"
            )
        return None

    def _start_anyway(self, request: RequestView, device: DeviceView) -> Admit:
        available = _gib(max(0, device.available_bytes))
        warning = (
            f"{_gib(request.need.total_bytes)} needed, {available} available on"
            f" {_called(device)} after {request.waited_s:.0f} s (subprocess_vram_patience): started"
            " anyway"
        )
        return self._admit(request, device, warning, in_vain=True)

    def _wait(self, request: RequestView, ours: list[DeviceView], *, overdue: bool) -> Wait:
        need = request.need
        emptiest = self._devices[0]
        free = f"{_gib(max(0, emptiest.available_bytes))} available on {_called(emptiest)}"
        promised = emptiest.promised_bytes
        if promised:
            free += f", in addition to {_gib(promised)} promised to other workers"
        guess = (
            "" if need.learned else " (subprocess_vram_reserve, until a task of this kind has run)"
        )
        cause, then = "others", "other programs hold the rest"
        if self.ask_neighbours or self._neighbours.may_still_free:
            cause, then = "neighbours", "neighbours are asked to unload"
        elif ours:
            cause, then = "own", "workers of this server hold the rest"
        return Wait(
            request.number,
            cause,
            f"{_gib(need.total_bytes)} of GPU memory needed{guess}, {free}; {then}",
            for_own_workers=bool(ours),
            overdue=bool(ours) and overdue,
        )

    def _admit(
        self, request: RequestView, device: DeviceView, warning: str = "", *, in_vain: bool = False
    ) -> Admit:
        self._closed.add(device.uuid)
        self._given.add(device.uuid)
        return Admit(request.number, device.uuid, request.need.total_bytes, warning, in_vain)

    def _open(self) -> list[DeviceView]:
        """GPUs where a worker may start now, the one with the most available first."""
        return [each for each in self._devices if each.uuid not in self._closed]


def _called(device: DeviceView) -> str:
    return f"{device.name} ({device.uuid})"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
