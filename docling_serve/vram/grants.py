"""One worker's permission to use a GPU, and the records that all grants share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from docling_serve.subprocess_worker.pool.admission import DeviceUse
from docling_serve.vram.background import Clock
from docling_serve.vram.ledger import Holding, Ledger
from docling_serve.vram.needs import NeedBook
from docling_serve.vram.readings import GpuReading
from docling_serve.vram.release import ReleaseTracker
from docling_serve.vram.sampling import GpuSampler


@dataclass(frozen=True)
class Books:
    """What all grants share. ``releases`` is None if nothing waits for memory to be freed.

    ``read`` reads the driver. ``others_wait`` says whether jobs wait for memory. ``changed`` is
    called when more of it may be free; ``exhausted`` when a job ran out of it.
    """

    ledger: Ledger
    needs: NeedBook
    sampler: GpuSampler
    releases: ReleaseTracker | None
    clock: Clock
    read: Callable[[], Awaitable[GpuReading]]
    others_wait: Callable[[], bool]
    changed: Callable[[], None]
    exhausted: Callable[[], None]

    def learn(self, holding: Holding) -> None:
        """Learn from the end of a job. Only from a worker that never ran another kind: models and
        caches of earlier jobs stay in its memory."""
        outcome, holding.outcome = holding.outcome, None
        if outcome is None or holding.shared or holding.kinds != {holding.kind}:
            return
        completed = outcome and holding.seen_loaded
        proven = holding.listed or holding.ocr_ran
        peak = holding.peak_bytes
        self.needs.observe(holding.kind, peak, completed=completed, proven=proven)


class VramGrant:
    """The pool's :class:`~docling_serve.subprocess_worker.pool.admission.Grant` on NVIDIA GPUs.

    ``holding`` is None where the driver gave no figures: then nothing is booked or learned.
    """

    def __init__(self, books: Books, kind: str, holding: Holding | None) -> None:
        self.kind = kind
        #: The GPU that was chosen, and what was promised on it; None and 0 without one.
        self.device_uuid = None if holding is None else holding.device_uuid
        self.booked_bytes = 0 if holding is None else holding.booked_bytes
        self._books = books
        self._holding = holding
        self._pid: int | None = None
        self._has_loaded = False
        self._noting: asyncio.Task[None] | None = None

    @property
    def use(self) -> DeviceUse:
        """See :attr:`Grant.use`."""
        return DeviceUse() if self._holding is None else self._holding.use

    async def extend(self, kind: str) -> bool:
        """See :meth:`Grant.extend`."""
        holding = self._holding
        if holding is None or kind in holding.kinds:
            return True
        need = self._books.needs.need(kind)
        if need.total_bytes > 0:
            reading = await self._books.read()
            if self._books.others_wait():
                return False  # memory that is free, or becomes free, is theirs
            for view in self._books.ledger.views(reading, [holding.device_uuid]):
                if view.starting or view.available_bytes < need.total_bytes:
                    return False
            holding.booked_bytes += need.total_bytes
            holding.starting = True
        holding.kinds.add(kind)
        return True

    def started(self, kind: str, pid: int) -> None:
        """See :meth:`Grant.started`."""
        if self._books.releases is not None and not self._has_loaded:
            # Read within milliseconds, long before the job can load a model.
            noting = self._books.releases.note_before(pid, self.device_uuid)
            self._noting = asyncio.get_running_loop().create_task(noting)
        self._pid = pid
        holding = self._holding
        if holding is not None:
            self._books.learn(holding)
            holding.kind, holding.pid, holding.running = kind, pid, True
            holding.kinds.add(kind)
            self._books.sampler.follow(holding)

    def loaded(self) -> None:
        """See :meth:`Grant.loaded`."""
        self._has_loaded = True
        if self._holding is not None:
            self._holding.loaded(self._books.clock())
            self._books.sampler.look_now()
            self._books.changed()

    def finished(self, *, completed: bool, ocr_ran: bool = False) -> None:
        """See :meth:`Grant.finished`."""
        holding = self._holding
        if holding is not None:
            holding.ocr_ran = holding.ocr_ran or ocr_ran
            holding.loaded(self._books.clock())
            holding.running, holding.outcome = False, completed
            self._books.sampler.look_now()
            self._books.sampler.unfollow(holding)
            self._books.changed()

    def out_of_memory(self) -> None:
        """See :meth:`Grant.out_of_memory`."""
        holding = self._holding
        if holding is None:
            self._books.needs.out_of_memory(self.kind)
        else:
            alone = holding.kinds == {holding.kind} and not holding.shared
            self._books.needs.out_of_memory(holding.kind, holding.peak_bytes if alone else 0)
            self._books.ledger.out_of_memory(holding.device_uuid)
        self._books.exhausted()

    async def ending(self) -> None:
        """See :meth:`Grant.ending`."""
        if self._books.releases is not None and self._pid is not None:
            await self._books.releases.look_before_end(self._pid)

    async def released(self) -> None:
        """See :meth:`Grant.released`."""
        try:
            if self._books.releases is not None and self._pid is not None:
                await self._books.releases.wait_after(self._pid)
        finally:
            self.give_back()

    def give_back(self) -> None:
        """See :meth:`Grant.give_back`."""
        if self._books.releases is not None and self._pid is not None:
            self._books.releases.forget(self._pid)
        holding, self._holding = self._holding, None
        if holding is not None:
            self._books.ledger.remove(holding)
            if holding.running:
                holding.outcome = False
            self._books.learn(holding)
            self._books.sampler.unfollow(holding)
            self._books.changed()
