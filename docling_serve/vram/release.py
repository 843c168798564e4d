"""Record what the GPUs held before a worker used them, and wait for that level after its exit."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from docling_serve.vram.background import READ_LIMIT_S, Clock, Sleep, read_in_background
from docling_serve.vram.baseline import MemoryBaseline, wait_until_released
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuReading, GpuState
from docling_serve.vram.sampling import GpuSampler

MAX_LOOKS = 240
"""Readings in which a worker's PID is looked for, two minutes' worth. By then its models are
loaded, and a PID that was not listed never will be (inside a container, for example)."""

LAST_LOOK_S = 1.0
"""How long the end of a worker waits for a last reading; one usually takes a few ms."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Tracked:
    baseline: MemoryBaseline
    looks: int = 0
    seen: bool = False


class ReleaseTracker:
    """The worker pool's view of device memory. Event loop only; the driver is read in threads.

    While a worker runs, its PID is looked for in the driver's lists. Once it was seen there, its
    absence later proves that its memory is free, whatever other programs took meanwhile.
    """

    def __init__(
        self,
        probe: GpuProbe,
        timeout_s: float,
        *,
        sampler: GpuSampler | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
        read_limit_s: float = READ_LIMIT_S,
        max_looks: int = MAX_LOOKS,
    ) -> None:
        """``sampler`` may be shared with :class:`VramAdmission`."""
        self._probe = probe
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._clock = clock
        self._read_limit_s = read_limit_s
        self._max_looks = max_looks
        self._sampler = sampler or GpuSampler(
            probe, sleep=sleep, clock=clock, read_limit_s=read_limit_s
        )
        self._sampler.subscribe(self._look)
        self._noting: set[int] = set()
        self._tracked: dict[int, _Tracked] = {}

    async def note_before(self, pid: int, device_uuid: str | None = None) -> None:
        """Worker ``pid``, which holds no device memory yet, is about to get a job; only on GPU
        ``device_uuid``, if that is known."""
        self._noting.add(pid)
        reading = await read_in_background(self._probe, limit_s=self._read_limit_s)
        if pid not in self._noting:  # it exited meanwhile
            return
        self._noting.discard(pid)
        if reading.listed_pids({pid}):
            self._sampler.pids_are_foreign()  # it holds nothing yet, so this is another process
        if reading.state is not GpuState.NONE:
            tracked = _Tracked(MemoryBaseline.from_reading(reading, device_uuid))
            self._tracked[pid] = tracked
            self._sampler.follow((ReleaseTracker, pid))

    async def look_before_end(self, pid: int) -> None:
        """Worker ``pid`` is about to be asked to exit: read once more what it holds."""
        if pid in self._tracked:
            await self._sampler.look(LAST_LOOK_S)

    async def wait_after(self, pid: int) -> None:
        """Worker ``pid`` has exited: wait until its device memory is free, within the bound."""
        tracked = self._tracked.get(pid)
        self.forget(pid)
        if tracked is None or not tracked.baseline.used_bytes:
            return
        report = await wait_until_released(
            self._probe,
            tracked.baseline,
            self._timeout_s,
            seen_pids={pid} if tracked.seen else (),
            sleep=self._sleep,
            clock=self._clock,
            read_limit_s=self._read_limit_s,
        )
        level = logging.WARNING if report.released is False else logging.INFO
        _log.log(level, "worker pid %d: %s after %.1f s", pid, report.reason, report.waited_s)

    def forget(self, pid: int) -> None:
        """Worker ``pid`` has exited: stop looking for it."""
        self._noting.discard(pid)
        self._tracked.pop(pid, None)
        self._sampler.unfollow((ReleaseTracker, pid))

    def _look(self, reading: GpuReading, _began_at: float) -> None:
        reading = self._sampler.with_our_processes(reading)
        listed = reading.listed_pids(self._tracked)
        for pid, tracked in self._tracked.items():
            tracked.looks += 1
            tracked.seen = tracked.seen or pid in listed
            if tracked.seen or tracked.looks >= self._max_looks:
                self._sampler.unfollow((ReleaseTracker, pid))
