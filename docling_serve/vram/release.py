"""Remember what the GPUs held before a worker used them, and wait for that after its end."""

from __future__ import annotations

import asyncio
import logging

from docling_serve.vram.baseline import MemoryBaseline, wait_until_released
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuState

_log = logging.getLogger(__name__)


class ReleaseWatch:
    """What the worker pool asks about device memory. Event loop only; the driver is read in
    threads."""

    def __init__(self, probe: GpuProbe, timeout_s: float) -> None:
        self._probe = probe
        self._timeout_s = timeout_s
        self._before: dict[int, MemoryBaseline] = {}

    async def note_before(self, pid: int) -> None:
        """Worker ``pid``, which holds no device memory now, is about to be given a job."""
        reading = await asyncio.to_thread(self._probe.read, 0)
        if reading.state is not GpuState.NONE:
            self._before[pid] = MemoryBaseline.from_reading(reading)

    async def wait_after(self, pid: int) -> None:
        """Worker ``pid`` has exited: wait until its device memory is back, within the bound."""
        baseline = self._before.pop(pid, None)
        if baseline is None or not baseline.used_bytes:
            return
        report = await wait_until_released(self._probe, baseline, self._timeout_s, seen_pids=())
        level = logging.WARNING if report.released is False else logging.INFO
        _log.log(level, "worker pid %d: %s after %.1f s", pid, report.reason, report.waited_s)
