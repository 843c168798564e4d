"""Start workers only when the GPU memory they need is really free.

:class:`VramAdmission` implements the pool's ``Admission`` protocol on NVIDIA GPUs. While jobs wait,
one loop reads the driver, lets ``admission_rules`` decide, and acts: it books memory, or asks
neighbours to unload. While workers run, the sampler's readings show what they really take, and
later jobs of the same kind are judged by that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from docling_serve.subprocess_worker.pool.admission import (
    AdmissionCounters,
    OnWait,
    Waiting,
)
from docling_serve.vram.admission_rules import (
    Admit,
    DeviceView,
    Patience,
    RequestView,
    Wait,
    decide,
)
from docling_serve.vram.background import (
    READ_LIMIT_S,
    Clock,
    Pause,
    Sleep,
    in_background,
    read_in_background,
)
from docling_serve.vram.cuda_order import CudaDevices, ask_cuda
from docling_serve.vram.device_nodes import make_uvm_node
from docling_serve.vram.devices import parse_devices, resolve_devices
from docling_serve.vram.eviction import Eviction, Unload
from docling_serve.vram.grants import Books, VramGrant
from docling_serve.vram.ledger import Holding, Ledger
from docling_serve.vram.needs import NeedBook
from docling_serve.vram.neighbours import UnloadOutcome, UnloadReport
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuReading, GpuState
from docling_serve.vram.release import ReleaseTracker
from docling_serve.vram.sampling import GpuSampler

DEFAULT_RESERVE_BYTES = 3 * 1024**3
"""What a kind of task is assumed to need before one was measured."""

DEFAULT_PATIENCE = Patience()

POLL_S = 0.25
"""How often free memory is checked while a job waits."""

UNKNOWN_GRACE_S = 5.0
"""How long a driver that gave figures before may be silent before jobs start without them."""

_log = logging.getLogger(__name__)


def _ignore(_: Waiting) -> None:
    return None


@dataclass(eq=False)
class _Request:
    number: int
    kind: str
    on_wait: OnWait
    since: float
    answer: asyncio.Future[VramGrant]
    waiting: Waiting | None = None
    cause: str = ""
    neighbours_asked: bool = False


class VramAdmission:
    """Admission by free GPU memory. Event loop only; the driver is read in threads.

    Without an NVIDIA GPU, or with a driver that gives no figures, jobs start at once. Configured
    neighbours are asked to unload first, because there is no way to tell whether there is room.
    """

    def __init__(
        self,
        probe: GpuProbe,
        *,
        reserve_bytes: int = DEFAULT_RESERVE_BYTES,
        patience: Patience = DEFAULT_PATIENCE,
        devices: str = "",
        unload: Unload | None = None,
        sampler: GpuSampler | None = None,
        releases: ReleaseTracker | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
        read_limit_s: float = READ_LIMIT_S,
        ask_cuda: Callable[[], CudaDevices] = ask_cuda,
    ) -> None:
        """``devices`` is as :func:`parse_devices` returns it (empty: the first visible GPU).
        ``unload`` asks the neighbours; None if there are none. ``sampler`` may be shared with
        ``releases``, which waits for the memory of a worker that exited; None waits for nothing.

        Raises:
            ValueError: ``devices`` names something that is not a device.
        """
        self.counters = AdmissionCounters()
        self._probe = probe
        self._names = parse_devices(devices)
        self._needs = NeedBook(reserve_bytes)
        self._patience = patience
        self._ledger = Ledger()
        self._eviction = Eviction(unload, clock, self._neighbours_answered)
        self._own_sampler = sampler is None
        self._sampler = sampler or GpuSampler(
            probe, sleep=sleep, clock=clock, read_limit_s=read_limit_s
        )
        self._sampler.subscribe(self._note)
        self._clock = clock
        self._ask_cuda = ask_cuda
        self._read_limit_s = read_limit_s
        self._pause = Pause(sleep)
        self._numbers = count(1)
        self._requests: list[_Request] = []
        self._books = Books(
            self._ledger,
            self._needs,
            self._sampler,
            releases,
            clock,
            read=self._read,
            others_wait=lambda: bool(self._requests),
            changed=self._pause.cut,
            exhausted=self._eviction.exhausted,
        )
        self._pump: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._known_at: float | None = None
        self._warned: set[str] = set()

    #: See :attr:`Admission.shares_devices`.
    shares_devices = True

    # ---- what the pool calls --------------------------------------------------------------

    def begin(self) -> None:
        """See :meth:`Admission.begin`."""
        self._beginning = asyncio.get_running_loop().create_task(self._prepare())

    async def admit(self, kind: str, on_wait: OnWait = _ignore) -> VramGrant:
        """See :meth:`Admission.admit`."""
        answer: asyncio.Future[VramGrant] = asyncio.get_running_loop().create_future()
        request = _Request(next(self._numbers), kind, on_wait, self._clock(), answer)
        self._requests.append(request)
        self._pause.cut()
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._serve())
            self._pump.add_done_callback(self._pump_ended)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result().give_back()
            raise
        finally:
            if request in self._requests:
                self._requests.remove(request)
                self._pause.cut()
            if request.waiting is not None:
                self.counters.wait_seconds += self._clock() - request.since

    def close(self) -> None:
        """See :meth:`Admission.close`."""
        for request in self._requests:
            request.answer.cancel()
        for task in (self._pump, self._beginning):
            if task is not None:
                task.cancel()
        self._eviction.close()
        if self._own_sampler:
            self._sampler.close()

    # ---- deciding -------------------------------------------------------------------------

    async def _serve(self) -> None:
        if self._beginning is not None:
            await asyncio.wait({self._beginning})
        while self._requests:
            reading = await self._read()
            views = self._views(reading)
            if views:
                self._decide(views)
            else:
                self._without_figures(reading)
            if self._requests:
                await self._pause.wait(POLL_S)
        self._eviction.forget()
        self._sampler.let_go_later()

    def _decide(self, views: Sequence[DeviceView]) -> None:
        now = self._clock()
        requests = {each.number: each for each in self._requests}
        waiting_ones = [
            RequestView(each.number, self._needs.need(each.kind), now - each.since)
            for each in self._requests
        ]
        plan = decide(waiting_ones, views, self._eviction.view(), self._patience)
        if plan.ask_neighbours:
            self._eviction.ask()
        for decision in plan.decisions:
            request = requests[decision.number]
            if isinstance(decision, Wait):
                waiting = Waiting(decision.reason, decision.for_own_workers, decision.overdue)
                self._let_wait(request, decision.cause, waiting)
                continue
            if decision.in_vain:
                for view in views:
                    if view.uuid == decision.device_uuid:
                        self._ledger.waited_in_vain(view)
            self._grant(request, decision)

    def _without_figures(self, reading: GpuReading) -> None:
        if reading.state is not GpuState.NONE:
            reason = reading.reason or "; ".join(reading.unreadable) or "no such device"
            last = self._known_at
            if last is not None and self._clock() - last < UNKNOWN_GRACE_S:
                for request in self._requests:
                    self._let_wait(request, "driver", Waiting(f"no GPU figures: {reason}"))
                return
            self._warn_once(f"free GPU memory is not known ({reason}): tasks start without a check")
        for request in list(self._requests):
            if self._eviction.configured and not request.neighbours_asked:
                self._eviction.ask()
                waiting = Waiting("neighbours on the GPU are asked to unload")
                self._let_wait(request, "neighbours", waiting)
            else:
                self._grant(request, None)

    def _grant(self, request: _Request, admit: Admit | None) -> None:
        self._requests.remove(request)
        if request.answer.done():  # cancelled just now
            return
        holding: Holding | None = None
        if admit is not None:
            holding = self._ledger.add(request.kind, admit.device_uuid, admit.booked_bytes)
            if admit.warning:
                self.counters.overcommitted += 1
                _log.warning("task kind %s: %s", request.kind, admit.warning)
        grant = VramGrant(self._books, request.kind, holding)
        self.counters.grants += 1
        waited_s = self._clock() - request.since
        level = logging.INFO if request.waiting else logging.DEBUG
        _log.log(
            level,
            "task kind %s may start on %s after %.1f s",
            request.kind,
            grant.device_uuid,
            waited_s,
        )
        request.answer.set_result(grant)

    def _let_wait(self, request: _Request, cause: str, waiting: Waiting) -> None:
        if request.waiting is None:
            self.counters.waits += 1
        if request.cause != cause:
            _log.info("task kind %s waits: %s", request.kind, waiting.reason)
        if request.waiting != waiting or waiting.for_own_workers:
            # In each round, since a different worker may be idle now.
            request.cause, request.waiting = cause, waiting
            request.on_wait(waiting)

    def _neighbours_answered(self, reports: Sequence[UnloadReport]) -> None:
        gone = sum(report.outcome is UnloadOutcome.UNLOADED for report in reports)
        self.counters.evictions += gone
        for request in self._requests:
            request.neighbours_asked = True
        self._pause.cut()

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        error = None if pump.cancelled() else pump.exception()
        if pump is not self._pump or not (pump.cancelled() or error):
            return  # all requests were served; later ones have a loop of their own
        for request in self._requests:
            if request.answer.done():
                continue
            if error is None:
                request.answer.cancel()
            else:
                request.answer.set_exception(error)

    async def _prepare(self) -> None:
        """Make sure that CUDA finds the GPUs in workers, and number them as CUDA does."""
        problem = await in_background(make_uvm_node, "device-nodes")
        if problem:
            self._warn_once(problem)
        await self._learn_cuda_order()

    async def _learn_cuda_order(self) -> None:
        """Number the GPUs as CUDA does; with a single one there is nothing to ask."""
        reading = await self._read()
        if reading.listed_gpus < 2:
            return
        answer = await in_background(self._ask_cuda, "cuda-order")
        if answer.devices:
            self._probe.count_as_cuda([device.uuid for device in answer.devices])
            names = ", ".join(device.name for device in answer.devices)
            _log.info("CUDA shows these GPUs, cuda:0 first: %s", names)
        else:
            self._warn_once(f"GPUs are numbered as the driver lists them: {answer.error}")

    # ---- measuring ------------------------------------------------------------------------

    def _views(self, reading: GpuReading) -> list[DeviceView]:
        """The GPUs that workers may use and that could be read."""
        if reading.state is not GpuState.KNOWN:
            return []
        uuids, unknown = resolve_devices(self._names, reading)
        for name in unknown:
            self._warn_once(f"{name} is not among the visible GPUs: not used")
        views = self._ledger.views(reading, uuids)
        if views:
            self._known_at = self._clock()
        return views

    async def _read(self) -> GpuReading:
        began_at = self._clock()
        reading = await read_in_background(self._probe, limit_s=self._read_limit_s)
        self._note(reading, began_at)
        return reading

    def _note(self, reading: GpuReading, began_at: float) -> None:
        reading = self._sampler.with_our_processes(reading)
        if reading.state is GpuState.KNOWN:
            self._ledger.note(reading, began_at)
            for holding in self._ledger.holdings:
                self._books.learn(holding)

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _log.warning("%s", message)
